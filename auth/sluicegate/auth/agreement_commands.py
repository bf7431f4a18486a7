"""The command line of agreements: draft one, bring it into force, renew it, end it, see what its clauses come to.

Whatever a command writes has been loaded first, with the whole policy, as a server would load it. Exit codes: 0 done,
also if there was nothing to do; 1 refused, and nothing was written; 2 wrong usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from sluicegate.auth import agreement_lifecycle as lifecycle
from sluicegate.auth.agreement_files import Change, check_document, document_digest, read_files
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.clauses_command import agreement_check
from sluicegate.auth.diff_command import plain, show_differences
from sluicegate.auth.documents import Document
from sluicegate.auth.drafting import drafted
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.errors import EditingError, IssuingError, PolicyError, SigningError
from sluicegate.auth.fields import parse_timestamp
from sluicegate.auth.grant import QUOTA_NAMES
from sluicegate.auth.signer_options import Deployment, KeyFile, Signer, read_signers_key
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, show_problems, stop
from sluicegate.auth.trust_file import PolicyDirectory, TrustFile, read_trust

agreement_app = typer.Typer(
    help="Draft an agreement, sign, renew and end it, see what each clause comes to.", no_args_is_help=True
)
agreement_app.command("check")(agreement_check)

AgreementId = Annotated[str, typer.Argument(metavar="ID", help="Id of the agreement.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")]
Moment = Annotated[str, typer.Option(metavar="TIME", help="UTC, as 2027-01-20T00:00:00Z; or a day, from its midnight.")]

_NOT_CHECKED = "The signature was not checked against the server's signers (no --trust)."
_NOT_SIGNED = "Not signed any more: until it is, a server that checks signatures takes no change, and does not start."


@contextmanager
def _refusals() -> Iterator[None]:
    """Says what is wrong and exits with 1."""
    try:
        yield
    except PolicyError as error:
        show_problems(error.problems)
        err(f"{len(error.problems)} problem(s); nothing was written")
        raise typer.Exit(1) from None
    except (EditingError, IssuingError, SigningError) as error:
        stop(str(error))


@agreement_app.command("new")
def agreement_new(
    directory: PolicyDirectory,
    *,
    id_: Annotated[str, typer.Option("--id", help="Id, as tokens will name it.")],
    partner: Annotated[str, typer.Option(help="Short name of the partner; becomes a metric label.")],
    document: Annotated[Path, typer.Option(help="File of the document that stands behind it; its digest is written.")],
    title: Annotated[str | None, typer.Option(help="Title of the document; the file's name if left out.")] = None,
    signed_on: Annotated[str, typer.Option(metavar="DAY", help="When the document was signed, as 2026-01-12.")],
    issuer: Annotated[str, typer.Option(help="Issuer of the clients' tokens.")],
    client: Annotated[list[str], typer.Option(help="A client of the issuer. Repeatable.")],
    model: Annotated[list[str], typer.Option(help="A model. Repeatable.")],
    action: Annotated[list[str], typer.Option(help="generate or score. Repeatable.")],
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="When it begins, as --until.")],
    until: Moment,
    purpose: Annotated[list[str] | None, typer.Option(help="A permitted purpose. Repeatable.")] = None,
    non_commercial: Annotated[bool, typer.Option("--non-commercial", help="Commercial use is excluded.")] = False,
    timezone: Annotated[str, typer.Option(help="Of hours and daily quotas.")] = "UTC",
    quota: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A quota. Repeatable.")] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Draft an agreement: a new file of the policy, with the clause of each term. It covers nothing until it is signed.

    Other terms, as hours or a watermark, stand in the file as comments: write them there before it is signed.
    """
    terms: Document = {
        "id": id_,
        "partner": partner,
        "status": "draft",
        "valid": {"from": _moment(from_), "until": _moment(until)},
        "clients": [{"issuer": issuer, "client": each} for each in client],
        "models": model,
        "actions": action,
        "timezone": timezone,
        "quotas": _quotas(quota or []),
    }
    if purpose:
        terms["purposes"] = purpose
    with _refusals():
        legal = {"document": title or document.name, "sha256": document_digest(document), "signed_on": signed_on}
        terms["legal"] = {**legal, "non_commercial": True} if non_commercial else legal
        _carry_out(read_files(directory).added(drafted(terms)), dry_run=dry_run, as_json=as_json)


@agreement_app.command("sign")
def agreement_sign(
    directory: PolicyDirectory,
    agreement: AgreementId,
    *,
    key: KeyFile,
    signer: Signer,
    deployment: Deployment,
    document: Annotated[Path | None, typer.Option(help="File of the document, to be compared first.")] = None,
    trust: TrustFile = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring a draft into force, a suspended agreement back, or a changed one anew: write the signature into its file.

    What is signed is shown on standard error. With --document the file must be the document that the terms name.
    """
    with _refusals():
        files = read_files(directory)
        name, content, terms = files.find(agreement)
        if document is not None:
            check_document(document, terms)
        content = _signed(content, terms, key, signer, deployment)
        _carry_out(files.changed(name, content, read_trust(trust)), dry_run=dry_run, as_json=as_json)
    if trust is None:
        err(_NOT_CHECKED)


@agreement_app.command("renew")
def agreement_renew(
    directory: PolicyDirectory,
    agreement: AgreementId,
    *,
    until: Moment,
    document: Annotated[Path | None, typer.Option(help="File of the new document, if there is one.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the new document, if it is another.")] = None,
    signed_on: Annotated[str | None, typer.Option(metavar="DAY", help="When it was signed, as 2027-01-12.")] = None,
    key: Annotated[Path | None, typer.Option(help="Sign it at once with this key; see `sign`.")] = None,
    signer: Annotated[str | None, typer.Option(help="Signer's id, with --key.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Deployment, with --key.")] = None,
    trust: TrustFile = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Give an agreement a later end, and the new document if there is one.

    It has to be signed again: at once with --key, --signer and --deployment, or by `sign`.
    """
    if (document is None) != (signed_on is None) or (title is not None and document is None):
        raise typer.BadParameter("give --document and --signed-on together, and --title only with them")
    if (key is None) != (signer is None) or (key is None) != (deployment is None):
        raise typer.BadParameter("give --key, --signer and --deployment together")
    moment = _moment(until)
    with _refusals():
        paper: dict[str, str] = {}
        if document is not None and signed_on is not None:
            paper = {"sha256": document_digest(document), "signed_on": signed_on}
        if title is not None:
            paper["document"] = title
        files = read_files(directory)
        name, content, terms = files.find(agreement)
        content = lifecycle.renewed(content, terms, moment, paper)
        if key is not None and signer is not None and deployment is not None:
            if terms.status != "active":
                raise EditingError(f"{agreement} is {terms.status}: renew it without --key, and `sign` it then")
            content = _signed(content, terms, key, signer, deployment)
        _carry_out(files.changed(name, content, read_trust(trust)), dry_run=dry_run, as_json=as_json)
    if key is not None and trust is None:
        err(_NOT_CHECKED)
    if key is None and terms.status == "active" and not dry_run:
        err(_NOT_SIGNED)


@agreement_app.command("suspend")
def agreement_suspend(
    directory: PolicyDirectory, agreement: AgreementId, *, dry_run: DryRun = False, as_json: JsonFlag = False
) -> None:
    """Take an agreement out of force for a time. Nobody need sign; `sign` brings it back."""
    _close(directory, agreement, "suspended", dry_run=dry_run, as_json=as_json)


@agreement_app.command("terminate")
def agreement_terminate(
    directory: PolicyDirectory, agreement: AgreementId, *, dry_run: DryRun = False, as_json: JsonFlag = False
) -> None:
    """End an agreement for good. Nobody need sign."""
    _close(directory, agreement, "terminated", dry_run=dry_run, as_json=as_json)


def _close(
    directory: Path, agreement: str, status: Literal["suspended", "terminated"], *, dry_run: bool, as_json: bool
) -> None:
    with _refusals():
        files = read_files(directory)
        name, content, terms = files.find(agreement)
        _carry_out(
            files.changed(name, lifecycle.closed(content, terms, status), None), dry_run=dry_run, as_json=as_json
        )


def _signed(content: Document, terms: Agreement, key: Path, signer: str, deployment: str) -> Document:
    """The agreement in force; shows what was signed."""
    private_key = read_signers_key(key)
    signed, payload = lifecycle.signed(content, terms, private_key, signer, deployment)
    err(f"signed {payload.decode('utf-8')}")
    err(f"with the key {encode_base64url(private_key.public_key().public_bytes_raw())}")
    return signed


def _carry_out(change: Change, *, dry_run: bool, as_json: bool) -> None:
    """Write the change, unless there is none or it is only asked about, and say what it means."""
    is_written = change.changes_anything and not dry_run
    if is_written:
        change.write()
    if as_json:
        print_json({"file": str(change.path), "written": is_written, **plain(change.comparison)})
        return
    show_differences(change.comparison.differences)
    if is_written:
        out(f"wrote {change.path}")
    else:
        out(f"{change.path} stays as it is")


def _moment(text: str) -> str:
    """A time as files have it."""
    time = text if "T" in text else f"{text}T00:00:00Z"
    try:
        parse_timestamp(time)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return time


def _quotas(texts: list[str]) -> dict[str, int]:
    quotas: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in QUOTA_NAMES or not (value.isascii() and value.isdecimal()) or name in quotas:
            raise typer.BadParameter(f"write a quota once, as NAME=NUMBER; names are {', '.join(sorted(QUOTA_NAMES))}")
        quotas[name] = int(value)
    return quotas
