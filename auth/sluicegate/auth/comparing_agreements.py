"""What a change of agreements means, term by term."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from sluicegate.auth.agreements import Agreement, HourTerms
from sluicegate.auth.differences import (
    Difference,
    Effect,
    Signing,
    limit_effect,
    listing_differences,
    watermark_effect,
    written,
)
from sluicegate.auth.grant import QUOTA_NAMES

_Network = IPv4Network | IPv6Network
_Term = tuple[str, str | None, str | None, Effect]
"""Field, before, after, and its effect while the agreement is in force."""


def compare_agreements(before: Mapping[str, Agreement], after: Mapping[str, Agreement]) -> Iterator[Difference]:
    """Every difference, agreement by agreement. A change of an active one needs a signature, whatever it is."""
    for id_ in sorted(before.keys() | after.keys()):
        subject = f"agreement {id_}"
        old, new = before.get(id_), after.get(id_)
        if new is None:
            assert old is not None
            effect = Effect.CLOSES if old.status == "active" else Effect.RECORDS
            yield Difference(subject, "", f"{old.status}, with {old.partner}", None, effect)
        elif old is None:
            is_active = new.status == "active"
            effect, signing = (Effect.OPENS, Signing.ONE) if is_active else (Effect.RECORDS, Signing.NONE)
            yield Difference(subject, "", None, f"{new.status}, with {new.partner}", effect, signing)
        else:
            yield from _changes(subject, old, new)


def _changes(subject: str, old: Agreement, new: Agreement) -> Iterator[Difference]:
    signing = Signing.ONE if new.status == "active" else Signing.NONE
    for field, before, after, effect in _terms(old, new):
        in_force = effect if new.status == "active" or field == "status" else Effect.RECORDS
        yield Difference(subject, field, before, after, in_force, signing)


def _terms(old: Agreement, new: Agreement) -> Iterator[_Term]:
    if old.status != new.status:
        moves = {"active": Effect.OPENS} if old.status != "active" else {}
        yield "status", old.status, new.status, moves.get(new.status, _ended(old))
    yield from _dates(old, new)
    yield from _listing("clients", _clients(old), _clients(new), empty_is_all=False)
    yield from _listing("models", old.models, new.models, empty_is_all=False)
    yield from _listing("actions", old.actions, new.actions, empty_is_all=False)
    yield from _listing("purposes", old.purposes, new.purposes, empty_is_all=True)
    yield from _networks(old.networks, new.networks)
    was, is_ = old.output.watermark, new.output.watermark
    if was != is_:
        yield "output.watermark", was, is_, watermark_effect(was, is_)
    for name, strict in (("redaction", "pii"), ("flagged", "stop")):
        yield from _switch(f"output.{name}", getattr(old.output, name), getattr(new.output, name), strict)
    yield from _limit("token.max_lifetime", old.token.max_lifetime, new.token.max_lifetime)
    yield from _limit("token.max_auth_age", old.token.max_auth_age, new.token.max_auth_age)
    yield from _switch("token.binding", old.token.binding, new.token.binding, "mtls")
    yield from _listing("token.acr", old.token.acr, new.token.acr, empty_is_all=True)
    yield from _hours(old, new)
    for name in sorted(QUOTA_NAMES):
        yield from _limit(f"quotas.{name}", getattr(old.quotas, name), getattr(new.quotas, name))
    yield from _limit("max_priority", old.max_priority, new.max_priority)
    for name in ("partner", "legal", "findings", "timezone"):
        if getattr(old, name) != getattr(new, name):
            effect = Effect.CHANGES if name in ("partner", "timezone") else Effect.RECORDS
            yield name, written(getattr(old, name)), written(getattr(new, name)), effect


def _ended(old: Agreement) -> Effect:
    return Effect.CLOSES if old.status == "active" else Effect.RECORDS


def _dates(old: Agreement, new: Agreement) -> Iterator[_Term]:
    begin, end = (old.valid.from_, new.valid.from_), (old.valid.until, new.valid.until)
    if begin[0] != begin[1]:
        effect = Effect.OPENS if begin[1] < begin[0] else Effect.CLOSES
        yield "valid.from", f"{begin[0]:%Y-%m-%dT%H:%M:%SZ}", f"{begin[1]:%Y-%m-%dT%H:%M:%SZ}", effect
    if end[0] != end[1]:
        effect = Effect.OPENS if end[1] > end[0] else Effect.CLOSES
        yield "valid.until", f"{end[0]:%Y-%m-%dT%H:%M:%SZ}", f"{end[1]:%Y-%m-%dT%H:%M:%SZ}", effect


def _clients(agreement: Agreement) -> tuple[str, ...]:
    return tuple(f"{client.client} of {client.issuer}" for client in agreement.clients)


def _listing(field: str, before: tuple[str, ...], after: tuple[str, ...], *, empty_is_all: bool) -> Iterator[_Term]:
    """Entries taken out and added. Where an empty list does not narrow, to fill or to empty it is one step."""
    if set(before) == set(after):
        return
    if empty_is_all and not (before and after):
        yield (
            field,
            written(before) if before else "any",
            written(after) if after else "any",
            (Effect.OPENS if before else Effect.CLOSES),
        )
        return
    for old, new in listing_differences(before, after):
        yield field, old, new, Effect.OPENS if old is None else Effect.CLOSES


def _networks(before: tuple[_Network, ...], after: tuple[_Network, ...]) -> Iterator[_Term]:
    """As a list that does not narrow when it is empty; a network inside one that was there opens nothing."""
    networks = {str(each): each for each in after}
    for field, old, new, effect in _listing("networks", tuple(map(str, before)), tuple(networks), empty_is_all=True):
        added = networks.get(new) if new is not None else None
        is_inside = before and added is not None and any(_contains(each, added) for each in before)
        yield field, old, new, Effect.RECORDS if is_inside else effect


def _contains(outer: _Network, inner: _Network) -> bool:
    return outer.version == inner.version and inner[0] in outer and inner[-1] in outer


def _switch(field: str, before: str, after: str, strict: str) -> Iterator[_Term]:
    if before != after:
        yield field, before, after, Effect.CLOSES if after == strict else Effect.OPENS


def _limit(field: str, before: int | None, after: int | None) -> Iterator[_Term]:
    if before != after:
        yield field, written(before), written(after), limit_effect(before, after)


def _hours(old: Agreement, new: Agreement) -> Iterator[_Term]:
    before, after = old.hours, new.hours
    if before == after:
        return
    was, is_ = _enforced(before), _enforced(after)
    if was and is_:
        effect = Effect.CHANGES
    elif was or is_:
        effect = Effect.OPENS if was else Effect.CLOSES
    else:
        effect = Effect.RECORDS
    yield "hours", _hours_written(before), _hours_written(after), effect


def _hours_written(hours: HourTerms | None) -> str | None:
    if hours is None:
        return None
    windows = [f"{name}: {_clock(*each)}" for name in ("weekdays", "weekends") if (each := getattr(hours, name))]
    return "; ".join([*windows, f"mode: {hours.mode}"])


def _clock(start: int, end: int) -> str:
    return f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"


def _enforced(hours: HourTerms | None) -> bool:
    return hours is not None and hours.mode == "enforce"
