"""The decision a second time, from docs/access.md and nothing else: slow, plain, and apart from what it judges.

It reads the policy files as plain data and shares no code with `sluicegate.auth.decision`. Rows are judged one after
the other, from top to bottom, as the table has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any
from zoneinfo import ZoneInfo

from sluicegate.auth import AccessRequest, AuthorizationDetail, Peer, Principal, Withdrawals

Document = Mapping[str, Any]
Facts = dict[str, str]
CIRCLES = ("public", "partner", "internal")  # each includes those before it


@dataclass(frozen=True)
class Refused:
    """The row that says no, and what it says."""

    row: int
    reason: str
    facts: Facts


@dataclass(frozen=True)
class Served:
    """Everything that a grant must have."""

    audience: str
    partner: str
    agreement: str | None
    stage: str
    output_tokens: int | None
    watermark: bool
    redaction: str | None
    stop_flagged: bool
    outside_hours: bool
    expires_at: int


@dataclass(frozen=True)
class Question:
    """One call under one policy."""

    plan: Document
    agreements: Sequence[Document]
    withdrawn: Withdrawals
    principal: Principal
    request: AccessRequest
    peer: Peer
    now: float


@dataclass(frozen=True)
class Standing:
    """As whom the caller is judged: its circle and, if it claims one, the agreement with how the token narrows it."""

    circle: str
    agreement_id: str | None = None
    agreement: Document | None = None
    detail: AuthorizationDetail | None = None


def reference_decision(asked: Question) -> Refused | Served:
    """The first refusal in the order of the table; else the grant."""
    for refused in (_row_2(asked), _row_9(asked), _row_12(asked)):
        if refused is not None:
            return refused
    standing = _standing(asked)
    outcome = _judge(asked, standing)
    claims_by_name = standing.agreement_id is not None and standing.detail is None and standing.circle == "partner"
    model_is_public = _stage(asked)[1].get(asked.request.model) == "public"
    if (
        claims_by_name
        and model_is_public
        and not asked.request.partner_only
        and isinstance(outcome, Refused)
        and outcome.row in (13, 14, 15)
    ):
        return _judge(asked, Standing("public"))
    return outcome


# --- before the caller's standing matters


def _row_2(asked: Question) -> Refused | None:
    if asked.principal.anonymous and asked.plan["public"].get("anonymous", "refuse") != "serve":
        return Refused(2, "TOKEN_MISSING", {})
    return None


def _row_9(asked: Question) -> Refused | None:
    who, withdrawn = asked.principal, asked.withdrawn
    if who.anonymous:
        return None
    for each in withdrawn.issued_before:
        client_is_meant = each.client is None or each.client == who.client_id
        subject_is_meant = each.subject is None or each.subject == who.subject
        if each.issuer == who.issuer and client_is_meant and subject_is_meant and who.issued_at < each.time:
            return Refused(9, "TOKEN_WITHDRAWN", {})
    if (who.issuer, who.token_id) in withdrawn.tokens or (who.issuer, who.key_id) in withdrawn.keys:
        return Refused(9, "TOKEN_WITHDRAWN", {})
    if (who.issuer, who.client_id) in withdrawn.clients or (who.issuer, who.subject) in withdrawn.subjects:
        return Refused(9, "CALLER_WITHDRAWN", {})
    return None


def _row_12(asked: Question) -> Refused | None:
    request, who = asked.request, asked.principal
    needed = [f"{request.action}:{request.model}"]
    if request.action == "score" or request.logprobs:
        needed.append(f"logprobs:{request.model}")
    for scope in needed:
        if request.action not in ("generate", "score"):
            return Refused(12, "SCOPE_MISSING", {"required_scope": scope})
        held = scope == f"generate:{request.model}" if who.anonymous else scope in who.scopes
        if not held:
            return Refused(12, "SCOPE_MISSING", {"required_scope": scope})
    return None


# --- who comes as what


def _standing(asked: Question) -> Standing:
    who = asked.principal
    claims = list(_claims(asked))
    internal = asked.plan.get("internal", {}).get("clients", [])
    if any((each["issuer"], each["client"]) == (who.issuer, who.client_id) for each in internal):
        circle = "internal"
    else:
        circle = "partner" if claims else "public"
    if not claims:
        return Standing(circle)
    best = claims[0]
    for claim in claims[1:]:
        if _fit(asked, claim) > _fit(asked, best):
            best = claim
    return Standing(circle, *best)


def _claims(asked: Question) -> Iterator[tuple[str, Document | None, AuthorizationDetail | None]]:
    """What the token names, in its order; else every agreement that names the client, by id."""
    who = asked.principal
    by_id = {each["id"]: each for each in asked.agreements}
    if who.authorization_details:
        for detail in who.authorization_details:
            yield detail.agreement, by_id.get(detail.agreement), detail
        return
    for id_ in sorted(by_id):
        if _names_client(by_id[id_], who):
            yield id_, by_id[id_], None


def _fit(asked: Question, claim: tuple[str, Document | None, AuthorizationDetail | None]) -> list[bool]:
    """Model first, then action, then purpose, then whether it covers anything at all."""
    standing = Standing("partner", *claim)
    in_force = claim[1] is not None and claim[1]["status"] in ("active", "suspended")
    return [
        _covers_model(asked, standing),
        _covers_action(asked, standing),
        _covers_purpose(asked, standing),
        in_force,
    ]


def _names_client(agreement: Document, who: Principal) -> bool:
    return {"issuer": who.issuer, "client": who.client_id} in agreement["clients"]


def _covers_model(asked: Question, standing: Standing) -> bool:
    named = [standing.agreement["models"]] if standing.agreement is not None else []
    named += [standing.detail.models] if standing.detail is not None and standing.detail.models is not None else []
    return all(asked.request.model in each for each in named)


def _covers_action(asked: Question, standing: Standing) -> bool:
    named = [standing.agreement["actions"]] if standing.agreement is not None else []
    named += [standing.detail.actions] if standing.detail is not None and standing.detail.actions is not None else []
    return all(asked.request.action in each for each in named)


def _covers_purpose(asked: Question, standing: Standing) -> bool:
    stated = asked.request.purpose
    of_token = standing.detail.purpose if standing.detail is not None else None
    if of_token is not None and stated is not None and stated != of_token:
        return False
    allowed = standing.agreement.get("purposes", []) if standing.agreement is not None else []
    return not allowed or (of_token if of_token is not None else stated) in allowed


# --- rows 13 to 16, for one standing


def _judge(asked: Question, standing: Standing) -> Refused | Served:
    if standing.agreement_id is not None:
        facts = {"agreement": standing.agreement_id}
        if standing.agreement is None:
            return Refused(13, "AGREEMENT_UNKNOWN", facts)
        if not _names_client(standing.agreement, asked.principal):
            return Refused(13, "AGREEMENT_CLIENT_MISMATCH", facts)
    stage_id, opened = _stage(asked)
    open_to = opened.get(asked.request.model)
    in_circle = open_to is not None and CIRCLES.index(open_to) <= CIRCLES.index(standing.circle)
    if not in_circle or not _covers_model(asked, standing):
        return Refused(13, "MODEL_NOT_RELEASED", {"stage": stage_id})
    for refused in _rows_14_to_16(asked, standing):
        return refused
    if asked.request.model in asked.withdrawn.models:
        return Refused(13, "MODEL_WITHDRAWN", {})
    return _served(asked, standing)


def _stage(asked: Question) -> tuple[str, dict[str, str]]:
    """The stage of every answer, and to which circle it opens each model."""
    ids = [stage["id"] for stage in asked.plan["stages"]]
    missing = sorted(each for each in asked.withdrawn.stages if each not in ids)
    if missing:
        return missing[0], {}
    counting = [s for s in asked.plan["stages"] if s["id"] == asked.plan["active"] or s["id"] in asked.withdrawn.stages]
    opened = {}
    for model in asked.plan["models"]:
        circles = [stage["open"].get(model) for stage in counting]
        if None not in circles:
            opened[model] = CIRCLES[max(CIRCLES.index(circle) for circle in circles)]
    return counting[0]["id"], opened


def _rows_14_to_16(asked: Question, standing: Standing) -> Iterator[Refused]:
    """Every refusal, the first of them first."""
    yield from _rows_14_and_15(asked, standing)
    yield from _row_16(asked, standing)


def _rows_14_and_15(asked: Question, standing: Standing) -> Iterator[Refused]:
    request, now = asked.request, asked.now
    if standing.agreement_id is None:
        if request.partner_only:
            yield Refused(14, "AGREEMENT_REQUIRED", {})
        return
    facts = {"agreement": standing.agreement_id}
    agreement = standing.agreement
    assert agreement is not None, "row 13 let it pass"
    if agreement["status"] != "active" or now < _time(agreement["valid"]["from"]):
        yield Refused(14, "AGREEMENT_NOT_ACTIVE", facts)
    if now >= _time(agreement["valid"]["until"]):
        yield Refused(14, "AGREEMENT_EXPIRED", facts)
    if agreement["id"] in asked.withdrawn.agreements:
        yield Refused(14, "AGREEMENT_WITHDRAWN", facts)
    if not _covers_purpose(asked, standing):
        yield Refused(14, "PURPOSE_NOT_PERMITTED", facts)
    if not _covers_action(asked, standing):
        yield Refused(14, "ACTION_NOT_PERMITTED", facts)
    if not _inside_network(agreement.get("networks", []), asked.peer):
        yield Refused(14, "NETWORK_NOT_PERMITTED", facts)
    if agreement.get("hours", {}).get("mode") == "enforce" and not _inside_hours(agreement, now):
        yield Refused(14, "OUTSIDE_HOURS", facts)
    yield from _row_15(asked, agreement.get("token", {}))


def _row_15(asked: Question, terms: Document) -> Iterator[Refused]:
    who = asked.principal
    if "max_lifetime" in terms and who.expires_at - who.issued_at > _seconds(terms["max_lifetime"]):
        allowed = str(_seconds(terms["max_lifetime"]))
        yield Refused(15, "TOKEN_LIFETIME_EXCESSIVE", {"max_lifetime_seconds": allowed})
    is_bound = (
        who.certificate_thumbprint is not None and who.certificate_thumbprint == asked.peer.certificate_thumbprint
    )
    if terms.get("binding") == "mtls" and not is_bound:
        yield Refused(15, "TOKEN_BINDING_REQUIRED", {})
    wanted: Facts = {}
    if terms.get("acr"):
        wanted["acr_values"] = " ".join(terms["acr"])
    if "max_auth_age" in terms:
        wanted["max_age"] = str(_seconds(terms["max_auth_age"]))
    too_weak = "acr_values" in wanted and who.acr not in terms["acr"]
    too_old = "max_age" in wanted and (
        who.authenticated_at is None or who.authenticated_at + int(wanted["max_age"]) < asked.now
    )
    if too_weak or too_old:
        yield Refused(15, "STEP_UP_REQUIRED", wanted)


def _row_16(asked: Question, standing: Standing) -> Iterator[Refused]:
    request = asked.request
    if request.action != "generate":
        return
    if _watermark(asked, standing) == "required" and request.greedy:
        yield Refused(16, "OUTPUT_TERMS_CONFLICT", {"term": "watermark"})
    terms = standing.agreement.get("output", {}) if standing.agreement is not None else {}
    if terms.get("redaction") == "pii" and (request.token_bytes or request.logprobs):
        yield Refused(16, "OUTPUT_TERMS_CONFLICT", {"term": "redaction"})


def _watermark(asked: Question, standing: Standing) -> str:
    """The agreement says it for its partner, the plan for the public, nobody for internal callers."""
    if standing.agreement is not None:
        return str(standing.agreement.get("output", {}).get("watermark", "none"))
    if standing.circle != "public":
        return "none"
    return str(asked.plan["models"][asked.request.model].get("watermark", "none"))


def _inside_network(networks: Sequence[str], peer: Peer) -> bool:
    if not networks:
        return True
    return peer.address is not None and any(ip_address(str(peer.address)) in ip_network(each) for each in networks)


def _inside_hours(agreement: Document, now: float) -> bool:
    """Judged by the clock on the wall there: from the first minute on, and before the last one begins."""
    there = datetime.fromtimestamp(now, ZoneInfo(agreement["timezone"]))
    window = agreement["hours"].get("weekends" if there.strftime("%a") in ("Sat", "Sun") else "weekdays")
    if window is None:
        return False
    start, end = window.split("-")
    return bool(start <= there.strftime("%H:%M") < end)


def _served(asked: Question, standing: Standing) -> Served:
    who, agreement = asked.principal, standing.agreement
    public = asked.plan["public"]
    expires_at = int(asked.now) + 3600 if who.anonymous else who.expires_at
    limits: list[int | None] = []
    partner = standing.circle
    output: Document = {}
    if agreement is not None:
        partner = agreement["partner"]
        output = agreement.get("output", {})
        expires_at = min(expires_at, int(_time(agreement["valid"]["until"])))
        limits.append(agreement["quotas"].get("output_tokens_per_call"))
        if standing.detail is not None:
            limits.append(standing.detail.limits.get("output_tokens_per_call"))
    elif standing.circle == "public":
        limits.append(public["quotas"].get("output_tokens_per_call"))
        if who.anonymous:
            limits.append(public["anonymous_quotas"].get("output_tokens_per_call"))
    given = [limit for limit in limits if limit is not None]
    return Served(
        audience=standing.circle,
        partner=partner,
        agreement=agreement["id"] if agreement is not None else None,
        stage=_stage(asked)[0],
        output_tokens=min(given) if given else None,
        watermark=_watermark(asked, standing) in ("required", "where_possible"),
        redaction="pii" if output.get("redaction") == "pii" else None,
        stop_flagged=output.get("flagged") == "stop",
        outside_hours=agreement is not None and "hours" in agreement and not _inside_hours(agreement, asked.now),
        expires_at=expires_at,
    )


def _time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]
