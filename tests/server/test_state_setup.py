"""Where the URL of the state store comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from harness import write_server
from typer.testing import CliRunner

from sluicegate.server.commands import serve
from sluicegate.server.config import State
from sluicegate.server.errors import SettingsError
from sluicegate.server.file_checks import check_files
from sluicegate.server.settings_file import load_settings
from sluicegate.server.state_setup import opened_store, state_url

SECRET_URL = "rediss://gate:hunter2@redis.example:6379/0"


def file_of(directory: Path, content: bytes, mode: int = 0o640) -> Path:
    path = directory / "state-url"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def state(directory: Path, **settings: Any) -> State:
    return load_settings(write_server(directory, state=settings)).state


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_url_is_the_line_of_its_file_which_is_relative_to_the_settings(tmp_path: Path, end: str) -> None:
    file_of(tmp_path, (SECRET_URL + end).encode())

    assert state_url(state(tmp_path, url_file="state-url")) == SECRET_URL


def test_without_a_file_the_setting_counts(tmp_path: Path) -> None:
    assert state_url(state(tmp_path, url="redis://redis.example/0")) == "redis://redis.example/0"
    assert state_url(State()) == "sqlite:///sluicegate-state.db"


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"", 0o600, "must hold one line of 1 to 1024 bytes"),
        (b"\n", 0o600, "must hold one line of 1 to 1024 bytes"),
        (SECRET_URL.encode() + b"\nsecond line", 0o600, "must hold one line of 1 to 1024 bytes"),
        (b"redis://" + b"h" * 1024, 0o600, "must hold one line of 1 to 1024 bytes"),
        (SECRET_URL.encode() + b"\xff", 0o600, "holds no text"),
        (SECRET_URL.encode(), 0o644, "can be read by everybody; run: chmod o-rwx"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start_and_shows_nothing(
    tmp_path: Path, content: bytes, mode: int, problem: str
) -> None:
    file_of(tmp_path, content, mode)
    settings = load_settings(write_server(tmp_path, state={"url_file": "state-url"}))

    with pytest.raises(SettingsError, match=r"^state\.url_file: ") as caught:
        check_files(settings)

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"state\.url_file: .*: No such file"):
        state_url(state(tmp_path, url_file="nowhere"))


def test_both_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="state: give url or url_file, not both"):
        state(tmp_path, url="redis://redis.example/0", url_file="state-url")


def test_the_flag_wins_over_the_file(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(serve)
    config = write_server(tmp_path, state={"url_file": "nowhere"})

    checked = [
        CliRunner().invoke(app, ["--config", str(config), "--check", *flag]).exit_code
        for flag in ((), ("--state", "redis://redis.example/0"))
    ]

    assert checked == [1, 0]


async def test_a_relative_file_of_the_state_stands_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    file_of(tmp_path / "secrets", b"sqlite:///state.db\n")

    store = await opened_store(state(tmp_path, url_file="secrets/state-url"), None)
    await store.close()

    assert (tmp_path / "secrets/state.db").exists()
