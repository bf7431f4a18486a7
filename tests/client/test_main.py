"""The command line as a process: signals, pipes and terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from client_server import FakeServer, Hold, delta, finished, generated, started
from client_terminal import COMMAND, sluicegate

from sluicegate.client.commands.exits import MEANINGS
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


@contextmanager
def process(
    server: FakeServer, *arguments: str, env: Mapping[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**ENVIRONMENT, "SLUICEGATE_TARGET": server.target, **(env or {})}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    with subprocess.Popen([*COMMAND, *arguments], env=environment, **streams) as child:
        try:
            yield child
        finally:
            child.kill()


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        chunk = os.read(descriptor, 4096)
        assert chunk, f"ended after {seen!r}"
        seen += chunk
    return seen


def test_help_lists_every_command_and_every_exit_code() -> None:
    result = sluicegate("--help")

    assert result.exit_code == 0
    assert all(
        name in result.stdout
        for name in ("generate", "batch", "bench", "score", "models", "whoami", "check", "release", "withdraw", "serve")
    )
    assert all(f"{code.value:>3}  {meaning}" in result.stdout for code, meaning in MEANINGS.items())


def test_the_version_is_one_line() -> None:
    result = sluicegate("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("sluicegate")
    assert result.stdout.count("\n") == 1


def test_an_unknown_command_is_wrong_usage() -> None:
    assert sluicegate("generat", "m").exit_code == 2


def test_ctrl_c_ends_the_call_on_the_server_and_is_130(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("Once"), Hold()])

    with process(server, "generate", "m", "x") as child:
        assert child.stdout is not None
        read_until(child.stdout.fileno(), b"Once")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (130, b"\n", b"")
    assert server.calls[0].wait_for_end()


def test_ctrl_c_before_the_command_is_loaded_is_130_without_a_word(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")

    with process(server, "generate", "m", "x", env={"PYTHONPATH": str(tmp_path)}) as child:
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (130, b"", b"")


def test_a_closed_standard_input_is_told_in_a_line(server: FakeServer) -> None:
    with process(server, "generate", "m", preexec_fn=lambda: os.close(0)) as child:
        _, err = child.communicate(timeout=20)

    assert (child.returncode, err) == (2, b"sluicegate: standard input is closed: give the text as an argument\n")


def test_ctrl_c_while_standard_input_is_read_is_130(server: FakeServer) -> None:
    with process(server, "generate", "m", stdin=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}) as child:
        assert child.stdin is not None
        wait_until_it_reads_standard_input(child)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)

    assert (child.returncode, err) == (130, b"")
    assert server.calls == []


def wait_until_it_reads_standard_input(child: subprocess.Popen[bytes]) -> None:
    """Fill the pipe: what does not fit leaves only when the child reads."""
    assert child.stdin is not None
    child.stdin.write(b"x" * (1 << 16) + b"x")
    child.stdin.flush()


def test_a_reader_that_goes_away_ends_the_call_without_a_word(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), *[delta("Once upon a time ") for _ in range(20_000)], Hold()])

    with process(server, "generate", "m", "x") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        read_until(child.stdout.fileno(), b"Once")
        child.stdout.close()
        err = child.stderr.read()
        child.wait(timeout=20)

    assert (child.returncode, err) == (141, b"")
    assert server.calls[0].wait_for_end()


@pytest.mark.parametrize("arguments", [("generate", "m", "x"), ("generate", "m", "x", "--json")])
def test_output_that_cannot_be_written_is_told_in_a_line(server: FakeServer, arguments: tuple[str, ...]) -> None:
    server.will("StreamGenerate", [started(), delta("Once upon a time "), finished()])

    with (
        Path("/dev/full").open("wb") as full_disk,
        process(server, *arguments, stdout=full_disk) as child,
    ):
        _, err = child.communicate(timeout=20)

    assert (child.returncode, err) == (2, b"sluicegate: input or output failed: No space left on device\n")


def test_a_prompt_can_be_piped_in(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("naïve"), finished()])

    with process(server, "generate", "m", stdin=subprocess.PIPE) as child:
        out, _ = child.communicate("Wörter\n".encode(), timeout=20)

    assert (child.returncode, out) == (0, "naïve\n".encode())
    assert server.calls[0].asked(StreamGenerateRequest).text == "Wörter"


def test_text_that_the_terminal_s_encoding_lacks_is_replaced(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("naïve"), finished()])

    with process(server, "generate", "m", "x", env={"PYTHONIOENCODING": "ascii"}) as child:
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, b"na?ve\n", b"")


def test_on_a_terminal_the_model_cannot_steer_it_and_the_end_is_summed_up(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("a\x1b[2Jb"), finished()])
    master, slave = pty.openpty()

    with process(server, "generate", "m", "x", stdout=slave, stderr=slave) as child:
        os.close(slave)
        shown = read_until(master, b"]\r\n")
        child.wait(timeout=20)
    os.close(master)

    assert child.returncode == 0
    assert shown == b"a[2Jb\r\n[STOP; 3 + 2 tokens; seed 7]\r\n"


def test_ctrl_c_leaves_a_batch_that_can_go_on(server: FakeServer, tmp_path: Path) -> None:
    prompts, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    arguments = ("batch", "m", "--input", str(prompts), "--output", str(output), "--concurrency", "1")
    server.will("Generate", [generated("one")], [Hold()], [generated("two")])

    with process(server, *arguments) as child:
        server.wait_for_calls(2)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    after_interrupt = output.read_text().splitlines()
    second = sluicegate(*arguments, "--target", server.target)

    assert child.returncode == 130
    assert err.decode() == f"1 of 2 items are in {output}; the same command goes on from there\n"
    assert [json.loads(line)["id"] for line in after_interrupt] == ["1"]
    assert second.exit_code == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["1", "2"]


def test_a_batch_shows_its_progress_on_a_terminal(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    server.will("Generate", [generated("one")])
    master, slave = pty.openpty()

    arguments = ("batch", "m", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    with process(server, *arguments, stderr=slave, env={"TERM": "xterm"}) as child:
        os.close(slave)
        shown = read_until(master, b"there already")
        child.wait(timeout=20)
    os.close(master)

    assert child.returncode == 0
    assert b"2/2" in shown


@pytest.mark.parametrize("command", ["generate", "batch", "score", "models", "whoami", "check"])
def test_every_command_explains_itself(command: str) -> None:
    result = sluicegate(command, "--help", env={"COLUMNS": "200"})

    assert result.exit_code == 0
    assert "--target" in result.stdout
    assert "--token-file" in result.stdout
    assert "`sluicegate --help` lists the exit codes." in result.stdout
