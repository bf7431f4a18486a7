"""Requests with any value in any field, as they look on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

MAX_DEPTH = 3
"""Of messages in messages."""
_FLOATS = st.floats(width=32) | st.sampled_from([0.0, 0.5, 1.0, 2.0])
_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-3, 300) | st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-3, 300) | st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 300) | st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 300) | st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: _FLOATS,
    FieldDescriptor.CPPTYPE_FLOAT: _FLOATS,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 9),
}
_TEXTS = st.sampled_from(["gpt2-124m", "generate", "score", "release.yaml", "a" * 64]) | st.text(max_size=20)


@st.composite
def request_on_the_wire(draw: st.DrawFn, kinds: Mapping[str, type[Message]]) -> bytes:
    """A request of one of these kinds: its name, a line end, and the message."""
    name = draw(st.sampled_from(sorted(kinds)))
    message = kinds[name]()
    _fill(message, draw, MAX_DEPTH)
    return name.encode("ascii") + b"\n" + message.SerializeToString()


def _fill(message: Message, draw: st.DrawFn, levels_left: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), field, draw)
        elif field.message_type is not None:
            _fill_messages(message, field, draw, levels_left)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_scalar(field), max_size=5)))
        else:
            setattr(message, field.name, draw(_scalar(field)))


def _fill_messages(message: Message, field: Any, draw: st.DrawFn, levels_left: int) -> None:
    if levels_left == 0:
        return
    place = getattr(message, field.name)
    for _ in range(draw(st.integers(0, 3)) if field.is_repeated else 1):
        inner = GetMessageClass(field.message_type)()
        _fill(inner, draw, levels_left - 1)
        if field.is_repeated:
            place.append(inner)
        else:
            place.CopyFrom(inner)


def _fill_map(place: Any, field: Any, draw: st.DrawFn) -> None:
    keys, values = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for key, value in draw(st.dictionaries(_scalar(keys), _scalar(values), max_size=4)).items():
        place[key] = value


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return _SCALARS[field.cpp_type]
    return st.binary(max_size=20) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
