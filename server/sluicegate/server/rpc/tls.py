"""TLS of the callers' listener, with certificates that can be renewed while the server runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import grpc
import structlog

from sluicegate.auth import certificate_problems
from sluicegate.server.config import Tls
from sluicegate.server.errors import SettingsError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Files:
    """PEM contents."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials that read the files again at every handshake, so that a renewed certificate counts at once.

    Files that cannot be used later leave the last good ones in force. Raises SettingsError at the start.
    """
    last = _read(tls)
    _check(tls, last)

    told: str | None = None

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last, told
        try:
            files = _read(tls)
            if files == last:
                told = None
                return None
            _check(tls, files)
        except SettingsError as error:
            if str(error) != told:  # each handshake asks, and strangers make handshakes
                told = str(error)
                log.error("certificate_not_renewed", problem=told)
            return None
        last, told = files, None
        log.info("certificate_renewed")
        return files.configuration()

    # The type stubs do not know that the function may answer None: no change.
    return grpc.dynamic_ssl_server_credentials(
        last.configuration(),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed),
        require_client_authentication=tls.client_ca is not None,
    )


def _read(tls: Tls) -> _Files:
    problems = []
    contents: dict[str, bytes | None] = {}
    for name, path in (("certificate", tls.certificate), ("key", tls.key), ("client_ca", tls.client_ca)):
        try:
            contents[name] = None if path is None else path.read_bytes()
        except OSError as error:
            problems.append(f"tls.{name}: {path} cannot be read: {error.strerror}")
    if problems:
        raise SettingsError(problems)
    return _Files(contents["certificate"] or b"", contents["key"] or b"", contents["client_ca"])


def _check(tls: Tls, files: _Files) -> None:
    """Raise SettingsError for files that TLS cannot be offered with."""
    problems = certificate_problems(files.certificate, files.key, files.client_ca, datetime.now(UTC))
    if problems:
        raise SettingsError([f"tls.{name}: {getattr(tls, name)} {problem}" for name, problem in problems.items()])
