"""`sluicegate policy explain`: why a call would be allowed or refused, each check in the order of decision."""

from __future__ import annotations

import time
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluicegate.auth.claims import principal_of
from sluicegate.auth.decision import CHECKS
from sluicegate.auth.encoding import parse_json
from sluicegate.auth.errors import AuthenticationError, ConfigurationError, KeySetError, PolicyError
from sluicegate.auth.explaining import FixedKeys, explain_token
from sluicegate.auth.fields import parse_duration, parse_timestamp
from sluicegate.auth.grant import AccessRequest, CheckOutcome, Denied, Grant
from sluicegate.auth.issuing import DEFAULT_ALGORITHM
from sluicegate.auth.jwk import parse_key_set
from sluicegate.auth.loading import load_policy
from sluicegate.auth.policy import Policy
from sluicegate.auth.principal import Peer, Principal, anonymous
from sluicegate.auth.terminal import (
    JsonFlag,
    err,
    out,
    print_json,
    reason_of,
    show_problems,
    stop,
    token_text,
    with_facts,
)
from sluicegate.auth.tokens import TokenVerifier, TrustedIssuer, parse_token
from sluicegate.auth.trust_file import PolicyDirectory, TrustFile, read_input, read_trust


def policy_explain(
    directory: PolicyDirectory,
    *,
    model: Annotated[str, typer.Option(help="The model asked for.")],
    action: Annotated[str, typer.Option(help="generate or score.")] = "generate",
    token_file: Annotated[Path | None, typer.Option(help="A token; verified if --jwks is given.")] = None,
    claims: Annotated[Path | None, typer.Option(help="A JSON file with a token's claims, taken as true.")] = None,
    without_token: Annotated[bool, typer.Option("--anonymous", help="A call without a token.")] = False,
    jwks: Annotated[
        Path | None, typer.Option(help="The issuer's key set: verify the token as the server would.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="With --jwks: the issuer that the server trusts.")] = None,
    audience: Annotated[str | None, typer.Option(help="With --jwks: the audience that the server expects.")] = None,
    algorithm: Annotated[list[str] | None, typer.Option(help="With --jwks: ES256 if left out. Repeatable.")] = None,
    max_lifetime: Annotated[str, typer.Option(help="With --jwks: the longest lifetime that counts.")] = "1h",
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

    With --jwks, --issuer and --audience the token of --token-file is verified first, as the server would. Without
    them its claims are taken as true.
    """
    if sum((token_file is not None, claims is not None, without_token)) != 1:
        raise typer.BadParameter("give exactly one of --token-file, --claims and --anonymous")
    if (jwks or issuer or audience) and not (jwks and issuer and audience and token_file):
        raise typer.BadParameter("--jwks, --issuer and --audience verify a --token-file; give all of them or none")
    try:
        policy = load_policy(directory, read_trust(trust))
        peer = Peer(ip_address(address) if address else None, thumbprint)
        now = time.time() if at is None else parse_timestamp(at).timestamp()
        lifetime = parse_duration(max_lifetime)
    except PolicyError as error:
        show_problems(error.problems)
        raise typer.Exit(1) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    request = AccessRequest(action, model, purpose, logprobs, greedy, token_bytes)
    if jwks and issuer and audience and token_file:
        verifier = _verifier(
            jwks,
            issuer=issuer,
            audience=audience,
            algorithms=algorithm or [DEFAULT_ALGORITHM],
            now=now,
            max_lifetime_seconds=lifetime,
        )
        token_checks, caller = explain_token(verifier, token_text(read_input(token_file)), peer)
    else:
        token_checks, caller = (), anonymous() if without_token else _principal(token_file, claims)
    outcome, checks = _decide(policy, caller, request, peer, now)
    checks = (*checks[:1], *token_checks, *checks[1:])
    is_believed = bool(token_checks) or without_token
    if as_json:
        print_json(
            {
                "allowed": isinstance(outcome, Grant),
                "token_verified": bool(token_checks),
                "checks": [_plain(each) for each in checks],
            }
        )
    else:
        _show_checks(checks)
        _show_outcome(outcome)
        if not is_believed:
            err("The claims were taken as true; --jwks, --issuer and --audience would verify the token.")
    raise typer.Exit(0 if isinstance(outcome, Grant) else 1)


def _verifier(
    jwks: Path, *, issuer: str, audience: str, algorithms: list[str], now: float, max_lifetime_seconds: int
) -> TokenVerifier:
    try:
        keys = FixedKeys(parse_key_set(read_input(jwks)))
        trusted = TrustedIssuer(issuer, audience, frozenset(algorithms), keys)
    except KeySetError as error:
        stop(f"{jwks}: {error}")
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    return TokenVerifier([trusted], clock=lambda: now, max_lifetime_seconds=max_lifetime_seconds)


def _principal(token_file: Path | None, claims_file: Path | None) -> Principal:
    try:
        if token_file is not None:
            parsed = parse_token(token_text(read_input(token_file)))
            return principal_of(parsed.claims, str(parsed.header.get("kid", "")))
        claims = parse_json(read_input(claims_file)) if claims_file is not None else None
    except AuthenticationError as error:
        stop(f"the server would not take this token: {reason_of(error)}")
    except ValueError as error:
        raise typer.BadParameter(f"{claims_file}: {error}") from error
    if not isinstance(claims, dict):
        raise typer.BadParameter(f"{claims_file} must hold one JSON object")
    try:
        return principal_of(claims, "")
    except AuthenticationError as error:
        stop(f"the server would not take these claims: {reason_of(error)}")


def _decide(
    policy: Policy, caller: Principal | AuthenticationError, request: AccessRequest, peer: Peer, now: float
) -> tuple[Grant | Denied, tuple[CheckOutcome, ...]]:
    """The decision and its checks; a caller who is not believed passes row 2 only, having sent a token."""
    if isinstance(caller, AuthenticationError):
        first, *others = CHECKS
        passed = CheckOutcome(first.row, first.question, passed=True)
        not_reached = [CheckOutcome(check.row, check.question, passed=None) for check in others]
        return Denied(caller.reason, caller.detail), (passed, *not_reached)
    return policy.decide(caller, request, peer, now), policy.explain(caller, request, peer, now)


def _plain(outcome: CheckOutcome) -> dict[str, object]:
    denied = outcome.denied
    return {
        "row": outcome.row,
        "check": outcome.check,
        "passed": outcome.passed,
        "reason": denied.reason.value if denied else None,
        "detail": dict(denied.detail) if denied else {},
    }


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


def _show_outcome(outcome: Grant | Denied) -> None:
    if isinstance(outcome, Denied):
        out(f"REFUSED: {with_facts(outcome.reason, outcome.detail)}")
        return
    limit = outcome.max_output_tokens or "any number of"
    priority = f", priority up to {outcome.max_priority}" if outcome.max_priority else ""
    out(f"ALLOWED as {outcome.partner} at stage {outcome.stage}, {limit} output tokens a call{priority}")
