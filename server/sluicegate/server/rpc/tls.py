"""TLS of the listeners for callers and for operators, with certificates that can be renewed while the server runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc

from sluicegate.server.certificate_files import CertificateFiles, Certificates, Renewal
from sluicegate.server.config import Tls


def server_credentials(section: str, tls: Tls | None) -> grpc.ServerCredentials | None:
    """Credentials that read the files again at every handshake, so that a renewed certificate counts at once.

    `section` of the settings names the files; None where it is missing. Files that cannot be used later leave the last
    good ones in force. Raises SettingsError at the start.
    """
    if tls is None:
        return None
    renewal = Renewal(CertificateFiles(section, tls.certificate, tls.key, tls.client_ca))

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        found = renewal.renewed()
        return None if found is None else _configuration(found)

    # The type stubs do not know that the function may answer None: no change.
    return grpc.dynamic_ssl_server_credentials(
        _configuration(renewal.last),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed),
        require_client_authentication=tls.client_ca is not None,
    )


def _configuration(found: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(found.key, found.certificate)], found.client_ca)
