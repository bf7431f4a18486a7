"""Opens the metrics endpoint that the settings describe. A part of app.py."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sluicegate.server import config
from sluicegate.server.certificate_files import CertificateFiles, Renewal
from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.exporter import exported
from sluicegate.server.observe.login import Login
from sluicegate.server.observe.metrics import Metrics

log = structlog.get_logger()


class Endpoint:
    """The endpoint's settings with the files that they name, which are read again as they are renewed."""

    def __init__(self, settings: config.Metrics) -> None:
        """Raises SettingsError for a file that cannot be used."""
        self._settings = settings
        self._tls = None if settings.tls is None else _Tls(settings.tls)
        login = settings.basic_auth
        self._login = None if login is None else Login(login.user, login.password_file)

    @contextmanager
    def opened(self, metrics: Metrics) -> Iterator[str | None]:
        """Serve the metrics while the context is open; gives the address, or None where there is to be none.

        Raises SettingsError if the address cannot be had.
        """
        listen = self._settings.listen
        if listen is None:
            yield None
            return
        tls = None if self._tls is None else self._tls.context
        with exported(metrics, listen, tls=tls, login=self._login) as port:
            yield f"{listen.rpartition(':')[0]}:{port}"


class _Tls:
    """What connections are opened with. `context` is called in the endpoint's thread."""

    def __init__(self, settings: config.Tls) -> None:
        self._settings = settings
        self._renewal = Renewal(CertificateFiles("metrics.tls", settings.certificate, settings.key, settings.client_ca))
        try:
            self._context = self._built()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise SettingsError([f"metrics.tls: TLS cannot be offered with these files: {error}"]) from None

    def context(self) -> ssl.SSLContext:
        """With the files as they are now, or as they last were good."""
        if self._renewal.renewed() is not None:
            try:
                self._context = self._built()
            except (OSError, ValueError) as error:  # changed again between two readings
                log.error("certificate_not_renewed", problem=str(error))
        return self._context

    def _built(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.certificate, self._settings.key)
        if self._settings.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._settings.client_ca)
        return context
