"""What `serve --check` looks at beyond the settings themselves: the files that they name. A part of app.py."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.server.certificate_files import CertificateFiles
from sluicegate.server.config import Settings
from sluicegate.server.errors import SettingsError
from sluicegate.server.metrics_setup import Endpoint
from sluicegate.server.signals_setup import lexicon_of
from sluicegate.server.state_setup import state_url
from sluicegate.server.tracing_setup import check_tracing
from sluicegate.server.watermark_setup import keyring_of


def check_files(settings: Settings) -> None:
    """Raise SettingsError with every file that cannot be used, and every extra that is missing."""
    checks: list[Callable[[], object]] = [lambda: Endpoint(settings.metrics)]
    for section, tls in (("tls", settings.tls), ("operators.tls", settings.operators.tls)):
        if tls is not None:
            checks.append(CertificateFiles(section, tls.certificate, tls.key, tls.client_ca).read)
    if (tracing := settings.tracing) is not None:
        checks.append(lambda: check_tracing(tracing))
    checks.append(lambda: state_url(settings.state))
    checks.append(lambda: lexicon_of(settings.signals))
    checks.append(lambda: keyring_of(settings.watermark))
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)
