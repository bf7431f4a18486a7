"""Changing the text of a policy file: what is to be other becomes so, and every other character stays as it was.

The wanted content is laid beside the YAML nodes of the text, which know where they stand; what differs is cut out and
written anew. Whatever comes of it counts only if the strict reader finds exactly the wanted content in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rfc8785
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from sluicegate.auth.documents import Document, DocumentError, compose_document, parse_document, write_value
from sluicegate.auth.errors import EditingError

_INDENT = 2
_COMMENT = re.compile(r"(?:^|\s)#", re.MULTILINE)


def rewritten(raw: bytes, document: Document) -> bytes:
    """The policy file `raw`, changed so that it reads as `document`: start from what `parse_document` gives.

    New keys go to the end of their mapping. A key that is taken out takes its lines with it, comments in them too.
    Raises DocumentError if `raw` is no document, and EditingError where the change would drop other comments or the
    result would not read as `document`.
    """
    text = raw.decode("utf-8")
    cuts = sorted(_changes(text, compose_document(raw), parse_document(raw), document), key=lambda cut: cut.start)
    for cut in reversed(cuts):
        text = text[: cut.start] + cut.text + text[cut.end :]
    changed = text.encode("utf-8")
    try:
        is_as_wanted = _same(parse_document(changed), document)
    except DocumentError as error:
        raise EditingError(f"would not be readable any more: {error}; change it by hand") from error
    if not is_as_wanted:
        raise EditingError("cannot be changed without changing more; change it by hand")
    return changed


@dataclass(frozen=True, slots=True)
class _Cut:
    """A stretch of the text, in characters, and what comes in its place."""

    start: int
    end: int
    text: str


def _same(one: object, other: object) -> bool:
    """Equal and of the same types: to Python, 1 is True. The order of keys does not count."""
    return rfc8785.dumps(one) == rfc8785.dumps(other)  # type: ignore[arg-type]


def _changes(text: str, node: Node, old: object, new: object, column: int | None = None) -> Iterator[_Cut]:
    """The cuts that make the old value of a node the new one; `column`: of its key, if that is in a block mapping."""
    if _same(old, new):
        return
    match node, old, new:
        case MappingNode(), dict(), dict() if _keeps_its_form(text, node, old, new):
            yield from _in_mapping(text, node, old, new)
        case SequenceNode(), list(), list() if len(old) == len(new) or (len(old) < len(new) and not node.flow_style):
            yield from _in_sequence(text, node, old, new)
        case _:
            yield _replaced(text, node, new, column)


def _keeps_its_form(text: str, node: MappingNode, old: Document, new: Document) -> bool:
    """Whether the mapping can be changed entry by entry."""
    if node.flow_style:
        return list(old) == list(new)
    removed = [key for (key, _), name in zip(node.value, old, strict=True) if name not in new]
    return len(removed) < len(old) and all(not _line_before(text, key).strip() for key in removed)


def _in_mapping(text: str, node: MappingNode, old: Document, new: Document) -> Iterator[_Cut]:
    column = None if node.flow_style else node.start_mark.column
    for (key_node, value_node), (key, value) in zip(node.value, old.items(), strict=True):
        if key in new:
            yield from _changes(text, value_node, value, new[key], column)
        else:
            start = key_node.start_mark.index - len(_line_before(text, key_node))
            yield _Cut(start, _next_line(text, _end(text, value_node)), "")
    added = [line for key, value in new.items() if key not in old for line in _entry(key, value, node)]
    if added:
        yield _inserted(text, _end(text, node), added)


def _in_sequence(text: str, node: SequenceNode, old: Sequence[object], new: Sequence[object]) -> Iterator[_Cut]:
    for item_node, was, is_ in zip(node.value, old, new, strict=False):
        yield from _changes(text, item_node, was, is_)
    added = [line for item in new[len(old) :] for line in _item(item, node.start_mark.column)]
    if added:
        yield _inserted(text, _end(text, node), added)


def _replaced(text: str, node: Node, new: object, column: int | None) -> _Cut:
    start, end = node.start_mark.index, _end(text, node)
    if isinstance(node, CollectionNode) and _COMMENT.search(text, start, end):
        raise EditingError(f"line {node.start_mark.line + 1}: has comments that would be lost; change it by hand")
    if column is not None and _is_listing(new):
        written = "".join(_newline(text) + line for line in _items(new, column + _INDENT))
    else:
        written = " " + write_value(new, _quote(node))
    before = text[:start].rstrip()
    if before.endswith(":"):
        return _Cut(len(before), end, written)
    return _Cut(start, end, written.lstrip())


def _quote(node: Node) -> str | None:
    return node.style if isinstance(node, ScalarNode) and node.style in ("'", '"') else None


def _inserted(text: str, end: int, lines: Sequence[str]) -> _Cut:
    """The lines, after the one in which something ends."""
    start, newline = _next_line(text, end), _newline(text)
    before = newline if start == len(text) and not text.endswith("\n") else ""
    return _Cut(start, start, before + "".join(line + newline for line in lines))


def _entry(key: str, value: object, node: Node) -> Iterator[str]:
    """The lines of a key with its value in a block mapping."""
    column = node.start_mark.column
    if _is_listing(value):
        yield f"{' ' * column}{write_value(key)}:"
        yield from _items(value, column + _INDENT)
    else:
        yield f"{' ' * column}{write_value(key)}: {write_value(value)}"


def _is_listing(value: object) -> bool:
    """Whether the value is better read line by line: a list of mappings."""
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _items(value: object, column: int) -> Iterator[str]:
    assert isinstance(value, list)
    for item in value:
        yield from _item(item, column)


def _item(item: object, column: int) -> Iterator[str]:
    """The lines of an item of a block sequence."""
    entries = item.items() if isinstance(item, dict) else ()
    parts = [f"{write_value(key)}: {write_value(value)}" for key, value in entries] or [write_value(item)]
    for index, part in enumerate(parts):
        yield f"{' ' * column}{' ' if index else '-'} {part}"


def _end(text: str, node: Node) -> int:
    """Where the text of a node ends; PyYAML has the end of a block after the blank lines and comments that follow."""
    match node:
        case MappingNode(flow_style=False | None):
            return _end(text, node.value[-1][1])
        case SequenceNode(flow_style=False | None):
            return _end(text, node.value[-1])
        case _:
            return len(text[: node.end_mark.index].rstrip("\r\n"))


def _line_before(text: str, node: Node) -> str:
    """What stands before a node in its line."""
    return text[: node.start_mark.index].rpartition("\n")[2]


def _next_line(text: str, index: int) -> int:
    """Where the line after this place begins."""
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
