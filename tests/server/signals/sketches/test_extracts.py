from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from templates import unlike

from sluicegate.server.signals.sketches import ExtractInvalid, Sketches
from sluicegate.server.signals.sketches.extracts import LARGEST_BYTES, decode, encode

NOW = 1_770_000_000.0


def told() -> bytes:
    """An extract as it is put into the store."""
    sketches = Sketches(b"s" * 32)
    for number in range(3):
        sketches.see_prompt("a", unlike(number), NOW)
        sketches.see_output("a", unlike(100 + number), NOW)
        sketches.see_token("a", b"token", bytes([number]), NOW)
    return sketches.changed(NOW)["a"]


def test_extract_comes_back_as_it_was() -> None:
    data = told()

    assert encode(decode(data)) == data


def columns() -> list[bytes]:
    _, found = msgspec.msgpack.decode(told())
    return list(found)


@pytest.mark.parametrize("place", range(20))
@pytest.mark.parametrize("flaw", ["longer", "odd", "gone", "huge"])
def test_array_of_another_length_than_its_fellows_is_refused(place: int, flaw: str) -> None:
    arrays = columns()
    good = arrays[place]
    arrays[place] = {"longer": good + good, "odd": good + b"\0", "gone": b"", "huge": bytes(40_000)}[flaw]

    with pytest.raises(ExtractInvalid):
        decode(msgspec.msgpack.encode((1, arrays)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1,),
        (1, []),
        (2, [b""] * 20),
        (1, [b""] * 21),
        (1, ["text"] * 20),
        (1, [b""] * 20, "more"),
        ("1", [b""] * 20),
        (-1, [b""] * 20),
        {"form": 1},
        [[[[[[]]]]]],
    ],
)
def test_value_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(ExtractInvalid):
        decode(msgspec.msgpack.encode(value))


def test_bytes_beyond_the_limit_are_refused_unread() -> None:
    with pytest.raises(ExtractInvalid, match="longer"):
        decode(told() + bytes(LARGEST_BYTES))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ExtractInvalid):
        decode(data)


@given(st.data())
def test_damaged_extract_is_read_or_refused_and_harms_no_figures(data: st.DataObject) -> None:
    damaged = bytearray(told())
    for _ in range(data.draw(st.integers(1, 30))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    sketches = Sketches(b"s" * 32)
    sketches.see_prompt("b", unlike(1), NOW)

    with suppress(ExtractInvalid):
        sketches.absorb("life-2", "a", bytes(damaged))
    found = sketches.figures(NOW)

    assert found["b"].prompts_distinct == 1
    assert all(0 <= each.prompt_duplicate_ratio <= 1 for each in found.values())
    assert all(0 <= each.output_duplicate_ratio <= 1 for each in found.values())
    assert all(each.networks_per_token_max <= 16 for each in found.values())
