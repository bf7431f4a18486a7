"""`sluicegate watch`, as a shell runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from metrics_pages import PageServer, page_server, server_metrics
from typer.testing import CliRunner, Result

from sluicegate.server.watch.commands import watch

_app = typer.Typer(add_completion=False)
_app.command("watch")(watch)

PROGRAM = (
    "import sys, typer; from sluicegate.server.watch.commands import watch; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(watch); app()"
)


def run(*arguments: object, **environment: str) -> Result:
    result = CliRunner(env={"COLUMNS": "120", "TERM": "dumb", **environment}).invoke(_app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def server() -> Iterator[PageServer]:
    with page_server() as shown:
        shown.show(server_metrics())
        yield shown


ONCE = ("--once", "--interval", "200ms")


def test_once_shows_partners_models_and_control(server: PageServer) -> None:
    result = run(server.url, *ONCE)

    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("stage s2, revision 5f0c", "example-lab", "newsroom", "gpt2-124m", "public", "audit 0 s"):
        assert text in result.stdout
    assert [path for path, _ in server.asked] == ["/metrics", "/metrics"]


def test_into_a_pipe_goes_no_escape_code_whatever_the_environment_says(server: PageServer) -> None:
    result = run(server.url, *ONCE, FORCE_COLOR="1", CLICOLOR_FORCE="1", TERM="xterm-256color")

    assert result.exit_code == 0
    assert "\x1b" not in result.output


def test_json_is_one_line_a_look(server: PageServer) -> None:
    result = run(server.url, *ONCE, "--json")

    [line] = result.stdout.splitlines()
    view = json.loads(line)
    assert (view["skew"], view["control"]["audit_enabled"]) == (False, True)
    assert {"example-lab", "newsroom", "public", "internal", "other"} == {row["partner"] for row in view["partners"]}
    assert view["partners"][0]["requests_per_second"] == 0


def test_a_server_that_is_not_there_shows_as_such_and_fails_once(server: PageServer) -> None:
    with page_server() as other:
        gone = other.url

    result = run(server.url, gone, *ONCE)

    assert result.exit_code == 1
    assert "1 of 2 servers answer" in result.stdout
    assert f"{gone.removeprefix('http://')}: cannot be reached" in result.stdout
    assert "newsroom" in result.stdout


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((401, b""), "answered 401: it asks for a user and a password that it knows"),
        ((404, b""), "answered 404: it has no such page"),
        ((200, b"<html>\x1b[2JLogin</html>"), "is no page of metrics"),
        ((200, b"node_load1 1\n"), "has no metrics of a Sluicegate server"),
    ],
)
@pytest.mark.parametrize("mode", [ONCE, ()])
def test_a_page_that_is_of_no_use_ends_it_with_the_reason(
    server: PageServer, answer: tuple[int, bytes], text: str, mode: tuple[str, ...]
) -> None:
    server.answers["/metrics"] = answer

    result = run(server.url, *mode)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"sluicegate: {server.url}/metrics: {text}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ftp://127.0.0.1/metrics",),
        ("127.0.0.1:9464",),
        ("http://ann:secret@127.0.0.1/metrics",),
        ("http://127.0.0.1/metrics", "--interval", "soon"),
        ("http://127.0.0.1/metrics", "--interval", "10ms"),
        ("http://127.0.0.1/metrics", "--user", "ann"),
        ("http://127.0.0.1/metrics", "--password-file", "{password}"),
        ("http://127.0.0.1/metrics", "--user", "ann", "--password-file", "{empty}"),
        ("http://127.0.0.1/metrics", "--user", "ann", "--password-file", "absent"),
        ("http://gate.example/metrics", "--user", "ann", "--password-file", "{password}"),
        ("https://127.0.0.1/metrics", "--ca", "{password}"),
    ],
)
def test_wrong_usage_is_told_apart(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")
    places = {name: str(tmp_path / name) for name in ("password", "empty")}

    result = run(*(argument.format(**places) for argument in arguments))

    assert result.exit_code == 2
    assert "secret" not in result.output


def test_user_and_password_go_to_the_server(server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s e cret\n")

    result = run(server.url, *ONCE, "--user", "ann", "--password-file", tmp_path / "password")

    assert result.exit_code == 0
    expected = f"Basic {b64encode(b'ann:s e cret').decode()}"
    assert {headers["authorization"] for _, headers in server.asked} == {expected}


class Terminal:
    """The command in a process of its own, in a terminal of 80 by 24."""

    def __init__(self, *arguments: str) -> None:
        self.leader, follower = pty.openpty()
        termios.tcsetwinsize(follower, (24, 80))
        self.before = termios.tcgetattr(follower)
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=follower,
            stdout=follower,
            stderr=subprocess.PIPE,
            env={name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")},
            start_new_session=True,
        )
        self._follower = follower
        self.written = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.written:
            self.written += os.read(self.leader, 65_536)

    def end(self) -> int:
        """Its exit code, once it has ended, with all that it wrote in `written`."""
        code = self.process.wait()
        os.set_blocking(self.leader, False)
        while True:
            try:
                self.written += os.read(self.leader, 65_536)
            except BlockingIOError:
                break
        return code

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._follower)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self.leader)
        os.close(self._follower)


@pytest.fixture
def terminal(server: PageServer) -> Iterator[Terminal]:
    opened = Terminal(server.url, "--interval", "200ms")
    yield opened
    opened.close()


def is_restored(terminal: Terminal) -> bool:
    screens = terminal.written.count(b"\x1b[?1049h"), terminal.written.count(b"\x1b[?1049l")
    return screens == (1, 1) and terminal.settings() == terminal.before and b"\x1b[?25h" in terminal.written


def test_q_ends_it_and_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.read_until(b"newsroom")
    os.write(terminal.leader, b"q")

    assert terminal.end() == 0
    assert is_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(terminal: Terminal, number: int) -> None:
    terminal.read_until(b"newsroom")
    terminal.process.send_signal(number)

    assert terminal.end() == 128 + number
    assert is_restored(terminal)


def test_a_server_that_goes_shows_as_such_and_comes_back(terminal: Terminal, server: PageServer) -> None:
    terminal.read_until(b"newsroom")
    good = server.answers.pop("/metrics")
    terminal.read_until(b"answered 404")
    terminal.written = b""
    server.answers["/metrics"] = good
    terminal.read_until(b"newsroom")
    os.write(terminal.leader, b"q")

    assert terminal.end() == 0


def test_q_is_heard_while_a_server_hangs(terminal: Terminal, server: PageServer) -> None:
    terminal.read_until(b"newsroom")
    server.headers["content-length"] = "1000000"  # the rest never comes
    server.headers["connection"] = "keep-alive"
    asked = len(server.asked)
    while len(server.asked) == asked:
        terminal.written += os.read(terminal.leader, 65_536)
    os.write(terminal.leader, b"q")

    assert terminal.end() == 0
    assert is_restored(terminal)
