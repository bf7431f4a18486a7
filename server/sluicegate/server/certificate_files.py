"""A listener's certificate, its key and its clients' authorities: files that are renewed while the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sluicegate.auth import certificate_problems
from sluicegate.server.errors import SettingsError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM contents. `client_ca`: of the authorities that sign clients' certificates; None where clients show none."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they are; `setting` is the section that names them, for problems to be told of."""

    setting: str
    certificate: Path
    key: Path
    client_ca: Path | None

    def read(self) -> Certificates:
        """What the files hold now. Raises SettingsError for files that TLS cannot be offered with."""
        found = self.contents()
        self.check(found)
        return found

    def contents(self) -> Certificates:
        """What the files hold now, whatever it is. Raises SettingsError for files that cannot be read."""
        contents: dict[str, bytes | None] = {}
        unread: dict[str, str] = {}
        for name, path in self._paths().items():
            try:
                contents[name] = None if path is None else path.read_bytes()
            except OSError as error:
                unread[name] = f"cannot be read: {error.strerror}"
        self._refuse(unread)
        return Certificates(contents["certificate"] or b"", contents["key"] or b"", contents["client_ca"])

    def check(self, found: Certificates) -> None:
        """Raises SettingsError for contents that TLS cannot be offered with.

        Not for each connection: OpenSSL checks an RSA key while it parses it, and holds the interpreter meanwhile.
        """
        self._refuse(certificate_problems(found.certificate, found.key, found.client_ca, datetime.now(UTC)))

    def _paths(self) -> dict[str, Path | None]:
        return {"certificate": self.certificate, "key": self.key, "client_ca": self.client_ca}

    def _refuse(self, problems: Mapping[str, str]) -> None:
        if problems:
            paths = self._paths()
            raise SettingsError([f"{self.setting}.{name}: {paths[name]} {text}" for name, text in problems.items()])


class Renewal:
    """Reads the files again whenever it is asked; files that cannot be used leave the last good ones in force.

    Each handshake asks, and strangers make handshakes: contents are judged once, and a problem is logged once.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Raises SettingsError if the files cannot be used now."""
        self._files = files
        self._told: str | None = None
        self._refused: Certificates | None = None
        self.last = files.read()

    def renewed(self) -> Certificates | None:
        """What the files hold, if that is something else than before, and good."""
        try:
            found = self._files.contents()
            if found == self.last:
                self._told = self._refused = None
                return None
            if found == self._refused:
                return None
            self._refused = found  # until it is found good: whoever asks meanwhile need not judge it, too
            self._files.check(found)
        except SettingsError as error:
            if str(error) != self._told:
                self._told = str(error)
                log.error("certificate_not_renewed", problem=self._told)
            return None
        self._told = self._refused = None
        self.last = found
        log.info("certificate_renewed")
        return found
