from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import serving, write_server

from sluicegate.server import config
from sluicegate.server.errors import SettingsError
from sluicegate.server.file_checks import check_files
from sluicegate.server.observe.tracing import NoTracing
from sluicegate.server.settings_file import load_settings
from sluicegate.server.tracing_setup import check_tracing, opened_tracing

ENDPOINT = "http://127.0.0.1:4317"


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only `sluicegate[server]` is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in ("sluicegate.server.observe.spans", "sluicegate.server.rpc.collector"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_a_server_that_is_to_trace_does_not_start(tmp_path: Path) -> None:
    path = write_server(tmp_path, tracing={"endpoint": ENDPOINT})
    settings = load_settings(path)

    with pytest.raises(SettingsError, match=r"tracing: OpenTelemetry is not installed; run: pip install") as checked:
        check_files(settings)
    with pytest.raises(SettingsError) as started:
        async with serving(tmp_path, tracing={"endpoint": ENDPOINT}):
            pass

    assert checked.value.problems == started.value.problems


@pytest.mark.usefixtures("without_the_extra")
async def test_without_the_extra_a_server_that_traces_nothing_starts(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass


async def test_without_the_setting_nothing_is_traced() -> None:
    async with opened_tracing(None, "gate-0") as tracing:
        assert isinstance(tracing, NoTracing)


def test_authorities_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tracing\.ca: .*: No such file"):
        check_tracing(config.Tracing(endpoint="https://collector.example:4317", ca=tmp_path / "nowhere.pem"))


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "collector.example:4317"},
        {"endpoint": "ftp://collector.example"},
        {"endpoint": "http://user:password@collector.example:4317"},
        {"endpoint": "http://collector.example:4317/v1/traces"},
        {"endpoint": ENDPOINT, "sampled_share": 1.1},
        {"endpoint": ENDPOINT, "sampled_share": -0.1},
        {"endpoint": ENDPOINT, "ca": Path("ca.pem")},
        {},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Tracing"):
        config.Tracing.model_validate(settings)
