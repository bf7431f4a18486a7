from __future__ import annotations

import os
from pathlib import Path

import pytest

from sluicegate.server.demo.errors import ServerNotStarted
from sluicegate.server.demo.server import Addresses, log_events, started

SERVING = '{"event": "serving", "address": "127.0.0.1:7001", "metrics": "127.0.0.1:7002"}'


def write_program(directory: Path, script: str) -> Path:
    """A program in the server's place: gets `serve --config FILE`, logs to standard error."""
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return program


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_addresses_come_from_the_log_and_models_are_told_as_they_load(tmp_path: Path, log: Path) -> None:
    events = f"""echo 'a warning of a library' >&2
        echo '{{"event": "model_loaded", "model": "demo-xs"}}' >&2
        echo '{{"event": "model_loaded", "model": "demo-s"}}' >&2
        echo '{SERVING}' >&2
        trap 'exit 0' TERM; while :; do sleep 0.05; done"""
    program = write_program(tmp_path, events)
    loaded: list[str] = []

    with started(program, tmp_path / "settings.yaml", log, os.environ) as server:
        addresses = server.wait_until_serving(loaded.append)
        code = server.stop()

    assert addresses == Addresses("127.0.0.1:7001", "127.0.0.1:7002")
    assert loaded == ["demo-xs", "demo-s"]
    assert code == 0


def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path, log: Path) -> None:
    program = write_program(tmp_path, 'echo "sluicegate: $1 $2 $3: the port is taken" >&2; exit 1')

    with (
        started(program, Path("my.yaml"), log, os.environ) as server,
        pytest.raises(ServerNotStarted, match=r"exit code 1(?s:.)*serve --config my\.yaml: the port is taken"),
    ):
        server.wait_until_serving(print)


def test_a_server_that_never_serves_is_given_up(tmp_path: Path, log: Path) -> None:
    program = write_program(tmp_path, "exec sleep 60")

    with (
        started(program, tmp_path / "settings.yaml", log, os.environ) as server,
        pytest.raises(ServerNotStarted, match="did not serve within"),
    ):
        server.wait_until_serving(print, limit_seconds=0.0)


def test_a_server_is_stopped_whatever_ends_the_demo(tmp_path: Path, log: Path) -> None:
    program = write_program(tmp_path, "exec sleep 60")

    with pytest.raises(KeyboardInterrupt), started(program, tmp_path / "settings.yaml", log, os.environ) as server:
        raise KeyboardInterrupt

    assert server.wait() == -15


def test_half_written_lines_and_other_texts_are_no_events(log: Path) -> None:
    log.write_text('plain\n{"event": "one"}\n{not json}\n{"event": "half')

    assert list(log_events(log)) == [{"event": "one"}]
