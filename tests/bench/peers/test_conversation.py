"""An engine's process answers, fails in words, and ends when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.peers.catalog import NAMES, PEERS, Kind, Peer, baseline
from bench.peers.conversation import EngineProcess, Missing
from bench.peers.environments import preloaded, python_of
from bench.peers.serving import Setup
from bench.work import Request

PROGRAM = """
import os
from array import array
from bench.peers.serving import NotOffered, Output, main

class Fake:
    versions, form = {"fake": "1"}, "as it is"

    def __init__(self, setup):
        print("what a library prints goes elsewhere")
        if setup.format == "int8":
            raise NotOffered("no int8")

    def generate(self, prompts, outputs):
        if prompts[0][0] == 98:
            os._exit(1)
        if prompts[0][0] == 99:
            raise RuntimeError("out of luck")
        return Output([[len(prompt)] * count for prompt, count in zip(prompts, outputs)][: prompts[0][0]], [])

    def logits(self, texts, last):
        if last > 1:
            raise NotOffered("one row at most")
        yield from (array("f", text).tobytes() for text in texts)

main(Fake)
"""


def start(directory: Path, format_: str = "float32") -> subprocess.Popen[str]:
    setup = {"checkpoint": "", "work": str(directory), "format": format_, "slots": 1, "context": 8, "threads": 1}
    command = [sys.executable, "-c", PROGRAM, json.dumps(setup)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with suppress(BrokenPipeError), start(tmp_path) as process:  # one that has ended takes no farewell
        yield EngineProcess(PEERS[0], process, tmp_path / "log", 60.0)


def test_a_loaded_engine_says_what_it_is(engine: EngineProcess) -> None:
    assert (engine.versions, engine.form) == ({"fake": "1"}, "as it is")
    assert engine.load_seconds >= 0
    assert engine.peak_bytes() > 0


def test_an_engine_does_the_work_that_it_is_given(engine: EngineProcess) -> None:
    found = engine.generate([Request([2, 1], 3), Request([1, 1, 1], 1)])

    assert found.output.ids == [[2, 2, 2], [3]]
    assert found.output.arrivals == []


def test_fewer_tokens_than_were_asked_for_are_no_measurement(engine: EngineProcess) -> None:
    with pytest.raises(Missing, match=r"gave \[1\] tokens, not the \[1, 1\]"):
        engine.generate([Request([1], 1), Request([1], 1)])


def test_logits_come_as_a_file_of_rows(engine: EngineProcess, tmp_path: Path) -> None:
    path = engine.logits([[1, 2]], 1, tmp_path / "rows")

    assert path.read_bytes() == b"\x00\x00\x80\x3f\x00\x00\x00\x40"


def test_what_an_engine_does_not_offer_it_says_and_goes_on(engine: EngineProcess, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="one row at most"):
        engine.logits([[1]], 2, tmp_path / "rows")

    assert engine.generate([Request([1], 1)]).output.ids == [[1]]


def test_an_engine_that_fails_at_some_work_says_of_what_and_goes_on(engine: EngineProcess) -> None:
    with pytest.raises(Missing, match="RuntimeError: out of luck"):
        engine.generate([Request([99], 1)])

    assert engine.generate([Request([1], 1)]).output.ids == [[1]]


def test_an_engine_whose_process_ends_is_missing_and_stays_so(engine: EngineProcess) -> None:
    with pytest.raises(Missing, match="its process ended"):
        engine.generate([Request([98], 1)])

    with pytest.raises(Missing, match="ended"):
        engine.generate([Request([1], 1)])


def test_a_format_that_an_engine_has_not_is_missing_with_its_reason(tmp_path: Path) -> None:
    with start(tmp_path, "int8") as process, pytest.raises(Missing, match="no int8"):
        EngineProcess(PEERS[0], process, tmp_path / "log", 60.0)


def test_an_engine_that_never_answers_is_ended_after_its_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        with pytest.raises(Missing, match=r"more than 0 s"):
            EngineProcess(PEERS[0], process, tmp_path / "log", 0.05)

        assert process.wait() != 0


def test_what_is_made_of_a_checkpoint_is_made_once_and_never_half(tmp_path: Path) -> None:
    setup = Setup(tmp_path, tmp_path / "work", "float32", slots=1, context=8, threads=1)
    made = list[Path]()

    def fail(to: Path) -> None:
        to.write_text("half")
        raise OSError("disk full")

    def convert(to: Path) -> None:
        made.append(to)
        to.write_text("whole")

    with pytest.raises(OSError, match="disk full"):
        setup.converted("model", fail)
    first, second = setup.converted("model", convert), setup.converted("model", convert)

    assert first == second
    assert first.read_text() == "whole"
    assert len(made) == 1


def test_every_peer_has_its_adaptor_and_a_baseline_of_its_kind() -> None:
    adaptors = Path(__file__).parents[3] / "bench/peers/adaptors"

    assert {f"{peer.module}.py" for peer in PEERS} | {"__init__.py"} == {path.name for path in adaptors.glob("*.py")}
    assert len(set(NAMES)) == len(PEERS)
    kinds = {peer.name: peer.kind for peer in PEERS}
    assert all(kinds[baseline(peer)] is peer.kind for peer in PEERS)
    assert baseline(Peer("another", "another", kind=Kind.SERVER)) == "server"


def test_ours_run_in_this_environment_with_nothing_preloaded(tmp_path: Path) -> None:
    assert python_of(None, tmp_path) == Path(sys.executable)
    assert preloaded(None, tmp_path) == ""


def test_a_library_is_preloaded_where_it_is_found(tmp_path: Path) -> None:
    (environment,) = {peer.environment for peer in PEERS if peer.name == "vllm" and peer.environment is not None}
    library = tmp_path / environment.name / "lib/libiomp5.so"
    library.parent.mkdir(parents=True)
    library.touch()

    assert str(library) in preloaded(environment, tmp_path).split(":")
