"""The text of a new agreement's file: the terms that are given, the others as comments, each with its clause."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.clauses import CLAUSES, Clause, Term
from sluicegate.auth.documents import Document, write_value

_HEAD = (
    "# The terms of an agreement as data, each with its clause of the agreement template.",
    "# What stands behind a # is not agreed: take the # away, and write what is.",
)


def drafted(document: Document) -> bytes:
    """The file of an agreement with these terms, which `parse_document` reads as `document`."""
    lines = [*_HEAD]
    for part in Agreement.model_fields:
        terms = [(clause, term) for clause in CLAUSES for term in clause.terms if _part(term) == part]
        if part != "signature":
            lines.extend(_part_lines(part, document.get(part), terms))
    return "".join(line + "\n" for line in lines).encode("utf-8")


def _part(term: Term) -> str:
    return term.field.partition(".")[0]


def _part_lines(part: str, value: object, terms: list[tuple[Clause, Term]]) -> Iterator[str]:
    [(clause, term), *_] = terms
    if term.field == part:
        yield from _lines("", part, value, clause, term)
        return
    given = value if isinstance(value, dict) else {}
    yield f"{part}:" if given else f"# {part}:"
    for clause, term in terms:
        name = term.field.partition(".")[2]
        yield from _lines("  ", name, given.get(name), clause, term)


def _lines(indent: str, name: str, value: object, clause: Clause, term: Term) -> Iterator[str]:
    if value is None:
        yield f"# {indent}{name}: {term.example}   # {clause}; left out: {term.left_out}"
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield f"{indent}{name}:   # {clause}"
        yield from (f"{indent}  - {write_value(item)}" for item in value)
    else:
        yield f"{indent}{name}: {write_value(value)}   # {clause}"
