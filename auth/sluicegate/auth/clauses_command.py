"""`sluicegate agreement check`: an agreement clause by clause, what is enforced and what is left to people."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth.agreement_files import check_document, read_files
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.checks import agreement_lapse
from sluicegate.auth.clauses import CLAUSES, Clause, Enforcement
from sluicegate.auth.documents import Document, write_value
from sluicegate.auth.errors import EditingError, PolicyError
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, printable, show_problems, stop
from sluicegate.auth.trust_file import PolicyDirectory, TrustFile, read_trust


def agreement_check(
    directory: PolicyDirectory,
    agreement: Annotated[str | None, typer.Argument(metavar="[ID]", help="Id; all agreements if left out.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="File that must be the document which the terms name, by its digest.")
    ] = None,
    trust: TrustFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an agreement clause by clause: its terms, what is enforced, with which refusal, and what is not.

    The whole policy is loaded as the server would; if that fails, so does this.
    """
    if document is not None and agreement is None:
        raise typer.BadParameter("--document is the document of one agreement; name its id")
    try:
        files = read_files(directory, read_trust(trust))
        chosen = [agreement] if agreement is not None else list(files.policy.agreements)
        found = [files.find(id_) for id_ in chosen]
        if document is not None:
            check_document(document, found[0][2])
    except PolicyError as error:
        show_problems(error.problems)
        err(f"{len(error.problems)} problem(s); the server would keep the revision that it has")
        raise typer.Exit(1) from None
    except EditingError as error:
        stop(str(error))
    lapses = [agreement_lapse(files.policy, terms, time.time()) for _, _, terms in found]
    if as_json:
        told = [
            _plain(content, terms, lapse, is_bound=document is not None)
            for (_, content, terms), lapse in zip(found, lapses, strict=True)
        ]
        print_json({"signatures_checked": trust is not None, "agreements": told})
        return
    for (name, content, terms), lapse in zip(found, lapses, strict=True):
        _show(name, content, terms, lapse)
    if document is not None:
        out(printable(f"{document} is its document."))
    if trust is None:
        err("Signatures were not checked (no --trust).")


def _show(file: str, content: Document, terms: Agreement, lapse: str | None) -> None:
    state = "in force now" if lapse is None else f"not in force now ({lapse})"
    out(printable(f"{terms.id} with {terms.partner}, {terms.status}, {state}: {file}"))
    for clause in CLAUSES:
        written = "; ".join(_written(clause, content)) or "no terms in the data"
        out(printable(f"{clause.number:2}. {clause.title}: {written}"))
        if (enforcement := clause.enforcement(terms)) is not None:
            out(f"    enforced: {enforcement.text}{_refusal(enforcement)}")
        if (left := _left_to_people(clause, content)) is not None:
            out(f"    left to people: {left}")


def _written(clause: Clause, content: Document) -> list[str]:
    values = {term: _value(content, term.field) for term in clause.terms}
    return [
        f"{term.field}: {write_value(value)}" if value is not None else f"{term.field} left out: {term.left_out}"
        for term, value in values.items()
    ]


def _refusal(enforcement: Enforcement) -> str:
    return f" Row {enforcement.row}: {', '.join(enforcement.reasons)}" if enforcement.row is not None else ""


def _left_to_people(clause: Clause, content: Document) -> str | None:
    """None also where nothing is agreed: none of the clause's terms is there."""
    is_agreed = not clause.terms or any(_value(content, term.field) is not None for term in clause.terms)
    return clause.left_to_people if is_agreed and clause.left_to_people else None


def _value(content: Document, field: str) -> object:
    """What stands at a dotted path; None if nothing does."""
    value: object = content
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain(content: Document, terms: Agreement, lapse: str | None, *, is_bound: bool) -> dict[str, object]:
    """An agreement as JSON has it. `is_bound`: a file was compared with its digest, and is its document."""
    return {
        "id": terms.id,
        "partner": terms.partner,
        "status": terms.status,
        "in_force": lapse is None,
        "reason": lapse,
        "document_compared": is_bound,
        "clauses": [
            {
                "number": clause.number,
                "title": clause.title,
                "terms": {term.field: _value(content, term.field) for term in clause.terms},
                "enforced": _plain_enforcement(clause.enforcement(terms)),
                "left_to_people": _left_to_people(clause, content),
            }
            for clause in CLAUSES
        ],
    }


def _plain_enforcement(enforcement: Enforcement | None) -> dict[str, object] | None:
    if enforcement is None:
        return None
    return {"text": enforcement.text, "row": enforcement.row, "reasons": list(enforcement.reasons)}
