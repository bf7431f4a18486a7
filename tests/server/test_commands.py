from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
import typer
from harness import DEMO, SMALL, demo_plan, write_server
from typer.testing import CliRunner, Result

from sluicegate.server import app as server_app
from sluicegate.server.commands import init, serve
from sluicegate.server.settings_file import SETTINGS_FILE_VARIABLE

app = typer.Typer()
app.command()(serve)
app.command()(init)


@pytest.fixture(autouse=True)
def _log_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`serve` sets up the process' log."""
    monkeypatch.delenv(SETTINGS_FILE_VARIABLE, raising=False)
    yield
    structlog.reset_defaults()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complaints(result: Result) -> list[str]:
    """What a start that failed says, without its log; there is never a traceback."""
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert all(line.startswith("sluicegate: ") for line in lines)
    return [line.removeprefix("sluicegate: ") for line in lines]


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_check_reads_the_settings_and_stops(tmp_path: Path) -> None:
    path = write_server(tmp_path)

    result = run("serve", "--check", "--config", path)

    assert (result.exit_code, result.stdout) == (0, f"{path}: good\n")


def test_the_environment_may_name_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(write_server(tmp_path)))

    assert run("serve", "--check").exit_code == 0


def test_without_settings_it_says_how_to_name_them() -> None:
    assert complaints(run("serve")) == ["no settings file: give --config FILE or set SLUICEGATE_CONFIG"]


def test_every_problem_of_the_settings_has_a_line(tmp_path: Path) -> None:
    path = write_server(tmp_path, listn="127.0.0.1:1", log={"level": "trace"})

    told = complaints(run("serve", "--config", path))

    assert told[0] == f"{path}: log.level: Input should be 'debug', 'info', 'warning' or 'error'"
    assert told[1:] == [f"{path}: listn: no such setting"]


def test_a_bad_flag_is_a_bad_setting(tmp_path: Path) -> None:
    path = write_server(tmp_path)

    assert complaints(run("serve", "--config", path, "--listen", "nowhere")) == [
        f"{path}: listen: expected HOST:PORT, [IPv6]:PORT or unix:/PATH"
    ]


def test_every_problem_of_the_policy_has_a_line(tmp_path: Path) -> None:
    plan = demo_plan(active="nowhere")
    plan["models"][SMALL]["licence"] = "MIT"
    path = write_server(tmp_path, plan)

    told = complaints(run("serve", "--config", path))

    assert told
    assert all(line.startswith("release.yaml: ") for line in told)


def test_a_policy_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = write_server(tmp_path, policy={"directory": "elsewhere", "signatures": "off"})

    [line] = complaints(run("serve", "--config", path))

    assert "release.yaml" in line or "elsewhere" in line


def test_unsigned_policy_does_not_start_where_signatures_are_demanded(tmp_path: Path) -> None:
    signers = [{"id": "release-lead", "public_key": "A" * 43}, {"id": "safety-lead", "public_key": "B" * 42 + "A"}]
    trust = {"deployment": "example", "signers": signers}
    path = write_server(tmp_path, policy={"directory": "policy", "signatures": trust})

    assert complaints(run("serve", "--config", path))


def test_a_model_that_the_policy_does_not_have_is_told(tmp_path: Path) -> None:
    path = write_server(tmp_path, models={"gpt2-3b": {}, "gpt2-4b": {}, SMALL: {}})

    told = complaints(run("serve", "--config", path))

    assert [line.partition(": ")[0] for line in told] == ["models.gpt2-3b", "models.gpt2-4b"]
    assert told[0].endswith("it has gpt2-124m, gpt2-355m, gpt2-774m, gpt2-1558m, gpt2-next")


def test_a_key_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = write_server(tmp_path)
    (tmp_path / "jwks.json").unlink()

    [line] = complaints(run("serve", "--config", path))

    assert line == f"tokens.issuers.0.keys.file: {tmp_path}/jwks.json: No such file or directory"


def test_a_key_file_with_a_private_key_is_refused(tmp_path: Path) -> None:
    path = write_server(tmp_path)
    (tmp_path / "jwks.json").write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"}]}')

    [line] = complaints(run("serve", "--config", path))

    assert line.startswith("tokens.issuers.0.keys.file: ")
    assert "c2VjcmV0" not in line


def test_a_port_in_use_is_told(tmp_path: Path, taken: str) -> None:
    path = write_server(tmp_path, listen=taken)

    assert complaints(run("serve", "--config", path)) == [
        f"listen: cannot listen on {taken}; is the address right and the port free?"
    ]


def test_a_metrics_port_in_use_is_told(tmp_path: Path, taken: str) -> None:
    path = write_server(tmp_path)

    assert complaints(run("serve", "--config", path, "--metrics-listen", taken)) == [
        f"metrics.listen: cannot listen on {taken}: Address already in use"
    ]


def test_a_metrics_host_that_does_not_exist_is_told(tmp_path: Path) -> None:
    path = write_server(tmp_path)

    [line] = complaints(run("serve", "--config", path, "--metrics-listen", "host.invalid:9464"))

    assert line.startswith("metrics.listen: cannot listen on host.invalid:9464: ")


def test_metrics_need_a_port_of_their_own(tmp_path: Path) -> None:
    path = write_server(tmp_path, metrics={"listen": f"unix:{tmp_path}/metrics"})

    [line] = complaints(run("serve", "--config", path))

    assert "metrics.listen" in line


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_a_tls_file_that_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    tls = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    for file in tls.values():
        (tmp_path / file).touch()
    (tmp_path / tls[name]).unlink()
    path = write_server(tmp_path, tls=tls)

    [line] = complaints(run("serve", "--config", path))

    assert line == f"tls.{name}: {tmp_path / tls[name]} cannot be read: No such file or directory"


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["models"][SMALL]["source"] = "./weights"
    path = write_server(tmp_path, plan)

    [line] = complaints(run("serve", "--config", path))

    assert line.startswith("./weights: ")


def test_a_directory_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    plan = demo_plan()
    (tmp_path / "weights").mkdir()
    plan["models"][SMALL]["source"] = str(tmp_path / "weights")
    path = write_server(tmp_path, plan)

    [line] = complaints(run("serve", "--config", path))

    assert "no tokenizer found" in line


def test_other_weights_than_the_policy_pins_are_told(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["models"][SMALL]["weights_sha256"] = "11" * 32
    path = write_server(tmp_path, plan)

    [line] = complaints(run("serve", "--config", path))

    assert "sha" in line.lower()
    assert "11" * 32 in line


@dataclass
class FailedServer:
    """A server of which a part has failed; notes what it finds when it is drained."""

    failed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    frozen: int = 0

    @property
    def draining(self) -> FailedServer:
        return self

    async def drain(self, _hurry: asyncio.Event) -> None:
        self.frozen = gc.get_freeze_count()


def test_the_garbage_collector_leaves_alone_what_a_start_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FailedServer()
    server.failed.set()

    @asynccontextmanager
    async def running(_settings: object) -> AsyncIterator[FailedServer]:
        yield server

    monkeypatch.setattr(server_app, "running", running)
    try:
        result = run("serve", "--config", write_server(tmp_path))
    finally:
        gc.unfreeze()

    assert complaints(result) == ["a background task failed; the log has its cause"]
    assert server.frozen > 10_000


def test_init_writes_files_that_a_server_starts_with(tmp_path: Path) -> None:
    result = run("init", tmp_path / "new", "--model", f"demo-xs={DEMO}")

    assert result.exit_code == 0
    assert f"sluicegate serve --config {tmp_path}/new/sluicegate.yaml" in result.stdout
    assert "--scope generate:demo-xs" in result.stdout
    assert run("serve", "--check", "--config", tmp_path / "new/sluicegate.yaml").exit_code == 0


def test_init_leaves_a_directory_with_files_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    told = complaints(run("init", tmp_path))

    assert told == [f"{tmp_path}: has files in it; name a new directory"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_init_says_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert complaints(run("init", tmp_path / "file/new")) == [
        f"{tmp_path}/file/new: cannot be written: Not a directory"
    ]
    assert complaints(run("init", tmp_path / "file")) == [f"{tmp_path}/file: cannot be written: Not a directory"]


@pytest.mark.parametrize("model", ["demo-xs", "=source", "id="])
def test_init_wants_a_model_with_its_source(tmp_path: Path, model: str) -> None:
    assert run("init", tmp_path / "new", "--model", model).exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "model",
    ["demo=/no/such/directory", "demo=some-owner/some-model", "Bad Id=openai-community/gpt2", "demo={directory}"],
)
def test_init_says_what_is_wrong_with_a_model_and_leaves_nothing(tmp_path: Path, model: str) -> None:
    (tmp_path / "empty").mkdir()

    told = complaints(run("init", tmp_path / "new", "--model", model.format(directory=tmp_path / "empty")))

    assert told
    assert not (tmp_path / "new").exists()
