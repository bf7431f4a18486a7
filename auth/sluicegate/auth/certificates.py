"""What must be right about TLS files before a server offers them, and the names that a certificate bears."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def certificate_names(pem: bytes) -> frozenset[str]:
    """DNS names and URIs of a PEM certificate's subject alternative name. Raises ValueError if it cannot be read."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError("the certificate's names cannot be read") from error
    dns, uris = x509.DNSName, x509.UniformResourceIdentifier
    return frozenset([*extension.get_values_for_type(dns), *extension.get_values_for_type(uris)])


def certificate_problems(certificate: bytes, key: bytes, client_ca: bytes | None, now: datetime) -> Mapping[str, str]:
    """What is wrong with these PEM contents, by parameter name, as a predicate; empty if they can be served with.

    `certificate` is the server's, followed by its intermediates. `now` has a time zone.
    """
    problems = {}
    chain = _certificates(certificate)
    if not chain:
        problems["certificate"] = "is no PEM file of certificates"
    elif chain[0].not_valid_after_utc <= now:
        problems["certificate"] = f"expired on {chain[0].not_valid_after_utc:%Y-%m-%d}; renew it"
    try:
        public = load_pem_private_key(key, password=None).public_key()
    except TypeError:
        problems["key"] = "is encrypted; give one that needs no passphrase"
    except (ValueError, UnsupportedAlgorithm):
        problems["key"] = "is no PEM file of a private key"
    else:
        if chain and public != chain[0].public_key():
            problems["key"] = "is not the key of the certificate"
    if client_ca is not None and not _certificates(client_ca):
        problems["client_ca"] = "is no PEM file of certificates"
    return problems


def _certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file; empty if one of them is damaged."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []
