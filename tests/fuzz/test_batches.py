"""A batch finds what is there to be found."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.batches import Finding, Tally, run_batch
from tests.fuzz.mutations import changed_document


def refuses_exclamations(data: bytes) -> bool:
    if b"!" in data:
        raise KeyError("an exclamation")
    return data.startswith(b"a")


ANY = st.text("ab!", max_size=9).map(str.encode)


def test_an_input_that_raises_is_found_and_made_small() -> None:
    [finding] = run_batch("any", refuses_exclamations, ANY, Tally(), seed=1, examples=200)

    assert finding.data == b"!"
    assert finding.place.startswith("KeyError at test_batches.py:")


def test_inputs_that_are_taken_and_refused_are_counted() -> None:
    tally = Tally()

    found = run_batch("any", refuses_exclamations, st.sampled_from([b"a", b"b"]), tally, seed=1, examples=50)

    assert found == []
    assert 0 < tally.taken < tally.executions


def test_an_input_that_takes_long_is_found() -> None:
    hours = itertools.count(0.0, 3600.0)

    found = run_batch("any", lambda data: True, st.just(b"a"), Tally(), seed=1, examples=1, clock=lambda: next(hours))

    assert [finding.place for finding in found] == ["slow"]


def test_documents_whose_keys_are_of_several_kinds_are_changed_too() -> None:
    def is_document(data: bytes) -> bool:
        return data.startswith(b"{")

    documents = changed_document([{"inner": {1: 0, "b": 1}}]).map(lambda document: repr(document).encode())

    tally = Tally()
    found = run_batch("any", is_document, documents, tally, seed=1, examples=50)

    assert (found, tally.taken) == ([], tally.executions)


def test_a_finding_is_kept_with_what_came_of_it(tmp_path: Path) -> None:
    path = Finding("any", "KeyError", b"!", "KeyError: an exclamation\n").save(tmp_path / "found")

    assert path.read_bytes() == b"!"
    assert path.with_name(f"{path.name}.txt").read_text() == "KeyError: an exclamation\n"
