"""Strict YAML to plain JSON values and back, so that a policy file means the same to every reader.

YAML 1.1 reads `no` as false, `22:00` as 1320 and `2026-01-12` as a date. Here only null, true, false and
whole numbers are anything but strings (near the JSON schema of YAML 1.2); aliases, tags, merge keys and
duplicate keys are refused.
"""

from __future__ import annotations

import math
import re

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 12

_STR_TAG = "tag:yaml.org,2002:str"
_MAP_TAG = "tag:yaml.org,2002:map"
_SEQ_TAG = "tag:yaml.org,2002:seq"
_RESOLVED = (
    ("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"]),
    ("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]{0,14})$"), list("-0123456789")),
)
_WORD = "[A-Za-z0-9](?:(?:[A-Za-z0-9._+/-]|:(?!/))*[A-Za-z0-9])?"  # URLs are put in quotes, as in the docs
_PLAIN = re.compile(f"{_WORD}(?: {_WORD})*")
_PATTERN_OF_TAG = {tag: pattern for tag, pattern, _ in _RESOLVED}

Document = dict[str, object]


class DocumentError(Exception):
    """A file is no document of ours; the text says why, with a line where there is one."""


class _Loader(yaml.SafeLoader):
    """A safe loader that knows no implicit types but those above."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "aliases are not used here", event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in _RESOLVED:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


def parse_document(raw: bytes, max_bytes: int = MAX_FILE_BYTES) -> Document:
    """The mapping in a file, of str, int, bool, None, list and dict only. Raises DocumentError."""
    return _mapping(compose_document(raw, max_bytes), MAX_DEPTH)


def compose_document(raw: bytes, max_bytes: int = MAX_FILE_BYTES) -> MappingNode:
    """The mapping in a file as nodes that know where in its text they stand. Raises DocumentError.

    Not all of what `parse_document` refuses is refused yet.
    """
    if len(raw) > max_bytes:
        raise DocumentError(f"is larger than {max_bytes} bytes")
    try:
        loader = _Loader(raw.decode("utf-8"))
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise DocumentError("is not UTF-8") from error
    except (ValueError, OverflowError) as error:  # PyYAML gives the number of a \U escape to chr()
        raise DocumentError("has an escape that is no character") from error
    except RecursionError as error:
        raise DocumentError(f"is nested more than {MAX_DEPTH} levels deep") from error
    except yaml.MarkedYAMLError as error:
        raise DocumentError(f"{_line(error)}{error.problem}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"is not YAML: {type(error).__name__}") from error
    if not isinstance(node, MappingNode):
        raise DocumentError("must be a mapping of keys to values, and one document only")
    return node


def write_value(value: object, quote: str | None = None) -> str:
    """What a document holds, in one line of flow style. `quote`: put this around a text that could do without."""
    match value:
        case dict():
            return f"{{{', '.join(f'{write_value(key)}: {write_value(each)}' for key, each in value.items())}}}"
        case list():
            return f"[{', '.join(map(write_value, value))}]"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() if quote or not _is_plain(value):
            style = quote if quote and value.isprintable() else '"'  # only between these there are escapes
            quoted: str = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=math.inf)
            return quoted.rstrip("\n")
        case _:
            return str(value)


def _is_plain(text: str) -> bool:
    """Whether a text needs no quotes, wherever it stands."""
    is_other = any(pattern.match(text) for pattern in _PATTERN_OF_TAG.values())
    return _PLAIN.fullmatch(text) is not None and not is_other


def _line(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark else ""


def _value(node: Node, levels_left: int) -> object:
    if levels_left == 0:
        raise DocumentError(f"line {node.start_mark.line + 1}: is nested more than {MAX_DEPTH} levels deep")
    if isinstance(node, MappingNode):
        return _mapping(node, levels_left)
    if isinstance(node, SequenceNode) and node.tag == _SEQ_TAG:
        return [_value(item, levels_left - 1) for item in node.value]
    if not isinstance(node, ScalarNode) or not _has_its_own_tag(node):
        raise _foreign_tag(node)
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return node.value == "true"
        case "int":
            return int(node.value)
        case _:
            return _text(node)


def _has_its_own_tag(node: ScalarNode) -> bool:
    """Whether the tag is the one that the text has by itself: `!!int abc` and `!!bool maybe` are not."""
    pattern = _PATTERN_OF_TAG.get(node.tag)
    if pattern is None:
        return bool(node.tag == _STR_TAG)
    return node.style is None and pattern.match(node.value) is not None


def _foreign_tag(node: Node) -> DocumentError:
    return DocumentError(f"line {node.start_mark.line + 1}: tags such as {node.tag} are not used here")


def _text(node: ScalarNode) -> str:
    try:
        node.value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DocumentError(f"line {node.start_mark.line + 1}: a lone surrogate is no character") from error
    return str(node.value)


def _mapping(node: MappingNode, levels_left: int) -> Document:
    if node.tag != _MAP_TAG:
        raise _foreign_tag(node)
    members: Document = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode) or key_node.tag != _STR_TAG:
            raise DocumentError(f"line {line}: a key must be a plain word, quoted if it looks like a number")
        key = _text(key_node)
        if key == "<<":
            raise DocumentError(f"line {line}: merge keys are not used here")
        if key in members:
            raise DocumentError(f"line {line}: {key!r} stands here twice")
        members[key] = _value(value_node, levels_left - 1)
    return members
