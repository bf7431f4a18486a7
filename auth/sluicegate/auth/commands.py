"""The command line of access control: keys and tokens for development, and a look into a policy.

Exit codes: 0 done or allowed, 1 refused (a bad policy, a denied call, a token that would not pass),
2 wrong usage. A private key is never printed; a token only by `token issue`, which is asked for one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluicegate.auth.claims import PARTNERSHIP, principal_of
from sluicegate.auth.encoding import parse_json
from sluicegate.auth.errors import AuthenticationError, ConfigurationError, IssuingError, PolicyError
from sluicegate.auth.fields import parse_duration
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Grant
from sluicegate.auth.issuing import (
    DEFAULT_ALGORITHM,
    add_to_key_set,
    create_signing_key,
    issue_token,
    read_signing_key,
    write_signing_key,
)
from sluicegate.auth.loading import load_policy
from sluicegate.auth.policy import Policy
from sluicegate.auth.principal import Peer, Principal, anonymous
from sluicegate.auth.signatures import TrustRoot, trust_root
from sluicegate.auth.tokens import ParsedToken, parse_token

MAX_INPUT_BYTES = 64 * 1024

keys_app = typer.Typer(help="Signing keys of the development issuer.", no_args_is_help=True)
token_app = typer.Typer(help="Access tokens of the development issuer.", no_args_is_help=True)
policy_app = typer.Typer(help="Check a policy, and ask it what it would decide.", no_args_is_help=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
PolicyDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory with release.yaml.")]
TrustFile = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        help='Check signatures against {"deployment": ..., "signers": {name: key}, "threshold": 2}.',
    ),
]


@keys_app.callback()
def _keys() -> None:
    """Keeps `generate` a command of its own although it is the only one."""


@keys_app.command("generate")
def keys_generate(
    private: Annotated[Path, typer.Option(help="New file for the private key; mode 0600.")],
    public: Annotated[Path, typer.Option(help="JWKS file that gets the public key; made if need be.")],
    algorithm: Annotated[str, typer.Option(help="ES256, EdDSA, RS256 or PS256.")] = DEFAULT_ALGORITHM,
    key_id: Annotated[str | None, typer.Option("--kid", help="Name of the key; random if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key: the private one into a file of its own, the public one into a JWKS file.

    Run it again with another private file to rotate: tokens of both keys are good as long as both stand in
    the JWKS file.
    """
    try:
        key = create_signing_key(algorithm, key_id=key_id)
        write_signing_key(private, key)
        add_to_key_set(public, key)
    except IssuingError as error:
        _stop(str(error))
    if as_json:
        _print_json({"kid": key.key_id, "alg": key.algorithm, "private": str(private), "public": str(public)})
    else:
        _out(f"{key.algorithm} key {key.key_id}: private in {private} (keep it secret), public in {public}")


@token_app.command("issue")
def token_issue(
    *,
    key: Annotated[Path, typer.Option(help="Private key of `keys generate`.")],
    issuer: Annotated[str, typer.Option(help="`iss`, as the server trusts it.")],
    audience: Annotated[str, typer.Option(help="`aud`, as the server expects it.")],
    client: Annotated[str, typer.Option(help="`client_id`, as agreements name it.")],
    scope: Annotated[list[str], typer.Option(help="A scope, as generate:gpt2-124m. Repeat for more.")],
    subject: Annotated[str | None, typer.Option(help="`sub`; the client if left out.")] = None,
    lifetime: Annotated[str, typer.Option(help="As 900s, 15m or 1h.")] = "15m",
    agreement: Annotated[str | None, typer.Option(help="Claim this agreement.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Narrow the claim to a model. Repeatable.")] = None,
    purpose: Annotated[str | None, typer.Option(help="Narrow the claim to a purpose.")] = None,
    acr: Annotated[str | None, typer.Option(help="How the caller authenticated.")] = None,
    thumbprint: Annotated[str | None, typer.Option(help="x5t#S256 of the certificate to bind to.")] = None,
    output: Annotated[Path | None, typer.Option(help="New file (mode 0600) instead of the terminal.")] = None,
) -> None:
    """Sign an access token and print it, and nothing else."""
    if agreement is None and (model or purpose):
        raise typer.BadParameter("--model and --purpose narrow an --agreement; name one")
    detail: dict[str, object] = {"type": PARTNERSHIP, "agreement": agreement}
    if model:
        detail["models"] = model
    if purpose:
        detail["purpose"] = purpose
    now = time.time()
    try:
        token = issue_token(
            read_signing_key(key),
            issuer=issuer,
            audience=audience,
            subject=subject or client,
            client_id=client,
            scopes=scope,
            now=now,
            lifetime_seconds=_seconds(lifetime),
            authorization_details=[detail] if agreement else [],
            authenticated_at=int(now) if acr else None,
            acr=acr,
            certificate_thumbprint=thumbprint,
        )
        principal_of(parse_token(token).claims, "")
        if output is not None:
            _write_secret(output, token)
    except IssuingError as error:
        _stop(str(error))
    except AuthenticationError as error:
        _stop(f"no server would take this token: {_reason(error)}")
    if output is None:
        _out(token)


@token_app.command("inspect")
def token_inspect(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="File with the token; - for standard input.")],
    as_json: JsonFlag = False,
) -> None:
    """Show what a token says. Nothing is verified: who made it, and whether it is true, stays open.

    The token comes from a file or a pipe, so that it does not end up in the shell's history.
    """
    try:
        parsed = parse_token(_token_text(file.read(MAX_INPUT_BYTES)))
    except AuthenticationError as error:
        _stop(f"not a token that the server would read: {_reason(error)}")
    problem: str | None = None
    try:
        principal_of(parsed.claims, "")
    except AuthenticationError as error:
        problem = _reason(error)
    if as_json:
        _print_json({"verified": False, "header": parsed.header, "claims": parsed.claims, "refused_for": problem})
    else:
        _show_token(parsed, problem)
    raise typer.Exit(1 if problem else 0)


@policy_app.command("check")
def policy_check(directory: PolicyDirectory, trust: TrustFile = None, as_json: JsonFlag = False) -> None:
    """Load a policy as the server would, and list everything that is wrong with it."""
    try:
        policy = load_policy(directory, _trust(trust))
    except PolicyError as error:
        if as_json:
            problems = [{"file": each.file, "field": each.field, "text": each.text} for each in error.problems]
            _print_json({"valid": False, "problems": problems})
        else:
            for problem in error.problems:
                _err(str(problem))
            _err(f"{len(error.problems)} problem(s); the server would keep the revision that it has")
        raise typer.Exit(1) from None
    if as_json:
        _print_json(
            {
                "valid": True,
                "revision": policy.revision,
                "stage": policy.stage.id,
                "models": list(policy.models),
                "agreements": sorted(policy.agreements),
                "signatures_checked": policy.is_signed,
            }
        )
    else:
        _show_policy(policy)


@policy_app.command("explain")
def policy_explain(
    directory: PolicyDirectory,
    *,
    model: Annotated[str, typer.Option(help="The model asked for.")],
    action: Annotated[str, typer.Option(help="generate or score.")] = "generate",
    token_file: Annotated[Path | None, typer.Option(help="A token; its signature is not verified.")] = None,
    claims: Annotated[Path | None, typer.Option(help="A JSON file with a token's claims.")] = None,
    without_token: Annotated[bool, typer.Option("--anonymous", help="A call without a token.")] = False,
    purpose: Annotated[str | None, typer.Option(help="The purpose that the call states.")] = None,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="Log-probabilities are asked for.")] = False,
    greedy: Annotated[bool, typer.Option("--greedy", help="Temperature 0 or top_k 1.")] = False,
    token_bytes: Annotated[bool, typer.Option("--token-bytes", help="Token ids or bytes are asked for.")] = False,
    address: Annotated[str | None, typer.Option(help="Network address of the caller.")] = None,
    thumbprint: Annotated[str | None, typer.Option(help="x5t#S256 of the caller's certificate.")] = None,
    at: Annotated[str | None, typer.Option(help="Time of the call, as 2026-01-20T12:00:00Z; now.")] = None,
    trust: TrustFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Say why a call would be allowed or refused: each check in order, with its outcome.

    The token's claims are taken as true: whether the server would believe them is not asked here.
    """
    if sum((token_file is not None, claims is not None, without_token)) != 1:
        raise typer.BadParameter("give exactly one of --token-file, --claims and --anonymous")
    try:
        policy = load_policy(directory, _trust(trust))
        principal = anonymous() if without_token else _principal(token_file, claims)
        peer = Peer(ip_address(address) if address else None, thumbprint)
        now = time.time() if at is None else datetime.fromisoformat(at).astimezone(UTC).timestamp()
    except PolicyError as error:
        _stop(str(error))
    except AuthenticationError as error:
        _stop(f"the server would not take these claims: {_reason(error)}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    request = AccessRequest(action, model, purpose, logprobs, greedy, token_bytes)
    outcome = policy.decide(principal, request, peer, now)
    outcomes = policy.explain(principal, request, peer, now)
    if as_json:
        _print_json({"allowed": isinstance(outcome, Grant), "checks": [_plain(each) for each in outcomes]})
    else:
        _show_checks(outcomes)
        if isinstance(outcome, Grant):
            limit = outcome.max_output_tokens or "any number of"
            _out(f"ALLOWED as {outcome.partner} at stage {outcome.stage}, {limit} output tokens a call")
        else:
            _out(f"REFUSED: {outcome.reason} {_facts(outcome.detail)}".rstrip())
    raise typer.Exit(0 if isinstance(outcome, Grant) else 1)


def _principal(token_file: Path | None, claims_file: Path | None) -> Principal:
    try:
        if token_file is not None:
            parsed = parse_token(_token_text(token_file.read_bytes()))
            return principal_of(parsed.claims, str(parsed.header.get("kid", "")))
        claims = parse_json(claims_file.read_bytes()) if claims_file is not None else None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    if not isinstance(claims, dict):
        raise typer.BadParameter(f"{claims_file} must hold one JSON object")
    return principal_of(claims, "")


def _trust(path: Path | None) -> TrustRoot | None:
    if path is None:
        return None
    try:
        document = parse_json(path.read_bytes())
        if not isinstance(document, dict) or not isinstance(document.get("signers"), dict):
            raise typer.BadParameter(f'{path} must be a JSON object with "deployment" and "signers"')
        signers = {str(name): str(key) for name, key in document["signers"].items()}
        return trust_root(str(document.get("deployment", "")), signers, int(document.get("threshold", 2)))
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, ConfigurationError) as error:
        raise typer.BadParameter(f"{path}: {error}") from error


def _token_text(raw: bytes) -> str:
    return raw.decode("ascii", errors="replace").strip()


def _seconds(lifetime: str) -> int:
    try:
        return parse_duration(lifetime)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _write_secret(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise IssuingError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def _plain(outcome: CheckOutcome) -> dict[str, object]:
    denied = outcome.denied
    return {
        "row": outcome.row,
        "check": outcome.check,
        "passed": outcome.passed,
        "reason": denied.reason.value if denied else None,
        "detail": dict(denied.detail) if denied else {},
    }


def _show_token(parsed: ParsedToken, problem: str | None) -> None:
    console = Console()
    console.print(Text("NOT VERIFIED: anybody could have written this.", style="bold yellow"))
    table = Table("part", "name", "value", box=None)
    for part, members in (("header", parsed.header), ("claims", parsed.claims)):
        for name, value in members.items():
            table.add_row(part, Text(_printable(name)), Text(_printable(_readable(name, value))))
    console.print(table)
    if problem:
        console.print(Text(f"The server would refuse it: {problem}", style="bold red"))


def _readable(name: str, value: object) -> str:
    if name in ("iat", "exp", "nbf", "auth_time") and type(value) is int and 0 <= value < 253402300800:
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    return value if isinstance(value, str) else json.dumps(value)


def _printable(text: str) -> str:
    """Without what a terminal would obey: the token's author is a stranger."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _show_policy(policy: Policy) -> None:
    console = Console()
    console.print(f"revision {policy.shown_revision}, stage {policy.stage.id} ({policy.stage.name})", markup=False)
    table = Table("model", "open to", "agreements", box=None)
    for model in policy.models:
        opened_to = policy.stage.open.get(model)
        naming = [each.id for each in policy.agreements.values() if model in each.models]
        table.add_row(model, opened_to.value if opened_to else "nobody", ", ".join(naming))
    console.print(table)
    if not policy.is_signed:
        console.print("Signatures were not checked (no --trust).", style="yellow")


def _show_checks(outcomes: tuple[CheckOutcome, ...]) -> None:
    marks = {
        True: Text("passed", "green"),
        False: Text("FAILED", "bold red"),
        None: Text("not reached", "dim"),
    }
    table = Table("row", "outcome", "check", box=None)
    for outcome in outcomes:
        table.add_row(str(outcome.row), marks[outcome.passed], Text(outcome.check))
    Console().print(table)


def _reason(error: AuthenticationError) -> str:
    return f"{error.reason} {_facts(error.detail)}".rstrip()


def _facts(detail: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in detail.items())


def _print_json(value: object) -> None:
    _out(json.dumps(value, indent=2))


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def _err(text: str) -> None:
    sys.stderr.write(text + "\n")


def _stop(text: str) -> NoReturn:
    _err(text)
    raise typer.Exit(1)
