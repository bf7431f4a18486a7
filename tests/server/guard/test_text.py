import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.server.guard import Redaction, TextStream


def stream(pieces: list[bytes], stops: list[str]) -> tuple[list[str], str | None]:
    text = TextStream(stops)
    out = []
    for piece in pieces:
        out.append(text.feed(piece))
        if text.stop_sequence is not None:
            break
    out.append(text.flush())
    return out, text.stop_sequence


def test_a_character_split_between_tokens_appears_when_it_is_whole() -> None:
    snowman = "☃".encode()

    out, _ = stream([b"a" + snowman[:1], snowman[1:2], snowman[2:] + b"b"], [])

    assert out == ["a", "", "☃b", ""]


def test_an_unfinished_character_at_the_end_becomes_a_replacement_character() -> None:
    out, _ = stream(["🙂".encode()[:3]], [])

    assert "".join(out) == "�"


def test_a_stop_sequence_across_tokens_ends_the_text_before_it() -> None:
    out, stop = stream([b"one\n", b"\n", b"two"], ["\n\n"])

    assert ("".join(out), stop) == ("one", "\n\n")


def test_what_only_begins_like_a_stop_sequence_is_passed_on() -> None:
    out, stop = stream([b"a##", b"b"], ["###"])

    assert (out[:2], stop) == (["a", "##b"], None)


def test_the_stop_sequence_that_ends_first_wins() -> None:
    out, stop = stream([b"xabcd"], ["bcd", "abc"])

    assert ("".join(out), stop) == ("x", "abc")


def test_of_two_that_end_together_the_longer_wins() -> None:
    out, stop = stream([b"xabc"], ["bc", "abc"])

    assert ("".join(out), stop) == ("x", "abc")


def test_nothing_follows_a_stop_sequence_not_even_a_half_character() -> None:
    out, stop = stream([b"aSTOP" + "é".encode()[:1]], ["STOP"])

    assert ("".join(out), stop) == ("a", "STOP")


def test_redaction_comes_after_the_stop_sequences_and_hides_nothing_from_listeners() -> None:
    heard: list[str] = []
    text = TextStream(["[EMAIL]", "STOP"], heard.append, Redaction())

    out = [text.feed(bytes([byte])) for byte in "é jane@example.org, bob@example.netSTOP".encode()]

    assert "".join(out) + text.flush() == "é [EMAIL], [EMAIL]"
    assert text.stop_sequence == "STOP"
    assert "".join(heard) == "é jane@example.org, bob@example.netSTOP"


@pytest.mark.parametrize("stops", [[], ["ab"], ["aab", "b🙂"], ["🙂"]])
@given(data=st.text("ab🙂é", max_size=12).map(str.encode), cuts=st.sets(st.integers(1, 40)))
def test_the_text_does_not_depend_on_how_the_bytes_are_cut(data: bytes, cuts: set[int], stops: list[str]) -> None:
    borders = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(borders)]

    out, stop = stream(pieces, stops)

    whole, whole_stop = stream([bytes([byte]) for byte in data], stops)
    assert ("".join(out), stop) == ("".join(whole), whole_stop)


@given(st.binary(max_size=40))
def test_any_bytes_give_what_python_decodes(data: bytes) -> None:
    out, _ = stream([bytes([byte]) for byte in data], [])

    assert "".join(out) == data.decode("utf-8", errors="replace")
