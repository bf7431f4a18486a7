"""A listener's certificate, its key and its clients' authorities: files that are renewed while the server runs."""

from __future__ import annotations

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
        paths = {"certificate": self.certificate, "key": self.key, "client_ca": self.client_ca}
        contents: dict[str, bytes | None] = {}
        unread: dict[str, str] = {}
        for name, path in paths.items():
            try:
                contents[name] = None if path is None else path.read_bytes()
            except OSError as error:
                unread[name] = f"cannot be read: {error.strerror}"
        found = Certificates(contents.get("certificate") or b"", contents.get("key") or b"", contents.get("client_ca"))
        now = datetime.now(UTC)
        problems = unread or certificate_problems(found.certificate, found.key, found.client_ca, now)
        if problems:
            raise SettingsError([f"{self.setting}.{name}: {paths[name]} {text}" for name, text in problems.items()])
        return found


class Renewal:
    """Reads the files again whenever it is asked; files that cannot be used leave the last good ones in force."""

    def __init__(self, files: CertificateFiles) -> None:
        """Raises SettingsError if the files cannot be used now."""
        self._files = files
        self._told: str | None = None
        self.last = files.read()

    def renewed(self) -> Certificates | None:
        """What the files hold, if that is something else than before, and good."""
        try:
            found = self._files.read()
        except SettingsError as error:
            if str(error) != self._told:  # each handshake asks, and strangers make handshakes
                self._told = str(error)
                log.error("certificate_not_renewed", problem=self._told)
            return None
        self._told = None
        if found == self.last:
            return None
        self.last = found
        log.info("certificate_renewed")
        return found
