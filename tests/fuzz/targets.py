"""What is fuzzed: each target with its seeds, the inputs that are made of them, and what is done with one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import rfc8785
from hypothesis import strategies as st

from sluicegate.auth.documents import parse_document
from sluicegate.server.audit.form import NO_HASH, parse_line
from tests.fuzz import checks
from tests.fuzz.messages import request_on_the_wire
from tests.fuzz.mutations import changed_document, changed_octets

SEEDS = Path(__file__).parent / "seeds"


@dataclass(frozen=True)
class Form:
    """Inputs that are documents: how one is read from a seed, and how a changed one is written again."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


@dataclass(frozen=True)
class Target:
    """`check` gives whether the input was taken; what it raises is a finding. Seeds: the files of `seeds/NAME`."""

    name: str
    check: Callable[[bytes], bool]
    words: tuple[bytes, ...]
    """What the language of its inputs is made of."""
    form: Form | None = None
    made: st.SearchStrategy[bytes] | None = None
    """Inputs that are made without seeds."""

    @cached_property
    def seeds(self) -> Mapping[str, bytes]:
        """Content by name."""
        return {path.name: path.read_bytes() for path in sorted((SEEDS / self.name).iterdir())}

    @cached_property
    def inputs(self) -> st.SearchStrategy[bytes]:
        inputs = [changed_octets(list(self.seeds.values()), self.words)]
        if self.form is not None:
            documents = [self.form.read(seed) for seed in self.seeds.values() if self.check(seed)]
            inputs.append(changed_document(documents).map(self.form.write))
        if self.made is not None:
            inputs.append(self.made)
        return st.one_of(inputs)


def _canonical(value: Any) -> bytes:
    """Canonical JSON where there is one: a changed document is refused for what it says, not for its form."""
    try:
        return rfc8785.dumps(value)
    except (ValueError, TypeError):
        return _plain(value)


def _plain(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")


def _packed(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (ValueError, OverflowError):
        return msgspec.msgpack.encode(None)


def _read_entries(data: bytes) -> list[Any]:
    """The entries of a log, its lines without their hashes."""
    return [json.loads(parse_line(line).raw) for line in data.splitlines()]


def _chain(entries: list[Any]) -> bytes:
    """Entries as lines with hashes that fit: what a forger can write who has not the key."""
    lines, previous = [], NO_HASH
    for entry in entries:
        raw = _canonical(entry)
        previous = hashlib.sha256(previous + raw).digest()
        lines.append(b'{"entry":' + raw + b',"hash":"' + previous.hex().encode("ascii") + b'"}\n')
    return b"".join(lines)


JSON = Form(json.loads, _plain)
CANONICAL = Form(json.loads, _canonical)
MSGPACK = Form(msgspec.msgpack.decode, _packed)
LINE = Form(lambda data: _read_entries(data)[0], lambda entry: _chain([entry])[:-1])
LOG = Form(_read_entries, _chain)
FILES = Form(
    lambda data: [parse_document(raw) for raw in data.split(checks.SEPARATOR)],
    lambda documents: checks.SEPARATOR.join(map(_plain, documents)),
)

_JSON_WORDS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"1e999",
    b"-0",
    b"\xff",
    b"NaN",
    b" ",
)
_YAML_WORDS = (
    b": ",
    b"- ",
    b"\n",
    b"\n  ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object ",
    b"|",
    b'"\\UFFFFFFFF"',
    b"\t",
    b"%",
)

TARGETS = {
    target.name: target
    for target in (
        Target("token", checks.token, (b".", b"=", b" ", b",", b"e30", b"bnVsbA", b"-", b"_", b"\xc3\xa9")),
        Target("claims", checks.claims, _JSON_WORDS, JSON),
        Target("key_set", checks.key_set, _JSON_WORDS, JSON),
        Target("policy", checks.policy, _YAML_WORDS, FILES),
        Target("evidence", checks.evidence, _JSON_WORDS, CANONICAL),
        Target(
            "request",
            checks.request,
            (b"\n", b"\x0a", b"\xff\xff\xff\xff\x0f", b"\x80"),
            None,
            request_on_the_wire(checks.REQUESTS),
        ),
        Target(
            "command",
            checks.command,
            (b"\x91", b"\x81", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc0", b"\xd4"),
            MSGPACK,
        ),
        Target("events", checks.events, (b"\x91", b"\x81", b"\xdd\xff\xff\xff\xff", b"\xc0", b"\xcb\x7f\xf8"), MSGPACK),
        Target("audit_line", checks.audit_line, _JSON_WORDS, LINE),
        Target("audit_log", checks.audit_log, (*_JSON_WORDS, b"\n", b"\r\n", b"\0"), LOG),
        Target(
            "forwarded",
            checks.forwarded,
            (b"\n", b",", b";", b"=", b'"', b"\\", b"Hash=", b"Cert=", b"%", b"::ffff:", b"fe80::1%eth0", b" "),
        ),
    )
}
