from __future__ import annotations

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from sluicegate.server.observe.log import LEVELS, STYLES, configure


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_has_one_object_a_line_with_its_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")

    structlog.get_logger().info("call", request_id="1", seconds=0.5)
    structlog.get_logger().warning("tls_off")

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["request_id"], first["seconds"]) == ("call", "info", "1", 0.5)
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"]) == ("tls_off", "warning")


@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str], level: str) -> None:
    configure(level, "json")

    for each in LEVELS:
        getattr(structlog.get_logger(), each)(each)

    names = list(LEVELS)
    written = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert written == names[names.index(level) :]


def fail() -> None:
    try:
        raise ValueError("the prompt was: MARKER")
    except ValueError as cause:
        raise RuntimeError("MARKER again") from cause


@pytest.mark.parametrize("style", STYLES)
def test_exception_is_told_by_type_and_place_and_never_by_its_text(
    capsys: pytest.CaptureFixture[str], style: str
) -> None:
    configure("info", style)

    try:
        fail()
    except RuntimeError as error:
        structlog.get_logger().exception("failed")
        structlog.get_logger().error("failed", exc_info=error)
        logging.getLogger("a_library").exception("failed too")

    written = capsys.readouterr().err
    assert written.count("ValueError at test_log.py:") == 3
    assert written.count("fail; then RuntimeError at test_log.py:") == 3
    assert "MARKER" not in written


def test_an_exception_stays_on_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("failed")

    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "failed"


def test_the_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")

    structlog.get_logger().info("serving", address="127.0.0.1:1")

    written = capsys.readouterr().err
    assert "serving" in written
    assert not written.startswith("{")
    assert "\x1b" not in written  # no terminal, no colours


def test_an_unknown_level_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        configure("trace", "json")


class FullDisk(io.StringIO):
    """A log file for which no room is left."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("style", STYLES)
def test_a_line_that_cannot_be_written_fails_nobody(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    full = FullDisk()
    monkeypatch.setattr(sys, "stderr", full)
    configure("info", style)

    for level in LEVELS:
        getattr(structlog.get_logger(), level)("call")
    full.close()
    structlog.get_logger().info("after its file was closed")

    assert full.closed


def test_an_exception_is_logged_nowhere_rather_than_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", FullDisk())
    configure("info", "json")

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("failed")
