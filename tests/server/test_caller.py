from __future__ import annotations

import uuid
from dataclasses import replace
from ipaddress import ip_address

from audits import call_of
from policies import policy

from sluicegate.auth import Audience, Grant, Peer, Principal, Quotas, anonymous
from sluicegate.server.caller import Call, Caller, cache_salt_of, identity_of, new_request_id

PEER = Peer(ip_address("192.0.2.7"))


def call(deadline: float | None) -> Call:
    return call_of(Caller(anonymous(), PEER), policy(), deadline)


def client(issuer: str, client_id: str, subject: str = "alice") -> Principal:
    return replace(anonymous(), issuer=issuer, client_id=client_id, subject=subject, anonymous=False)


def granted(agreement: str | None = None) -> Grant:
    return Grant(
        action="generate",
        model="gpt2-124m",
        audience=Audience.PUBLIC,
        stage="s1",
        policy_revision="1",
        agreement=agreement,
        partner="public",
        max_output_tokens=None,
        watermark=False,
        redaction=None,
        stop_flagged=False,
        outside_hours=False,
        expires_at=0,
        quotas=Quotas(),
    )


def identity(principal: Principal, agreement: str | None = None) -> str:
    return identity_of(Caller(principal, PEER), granted(agreement))


def test_request_ids_are_unique_and_of_version_7() -> None:
    ids = [uuid.UUID(new_request_id()) for _ in range(1_000)]

    assert len(set(ids)) == 1_000
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}


def test_request_ids_sort_by_their_milliseconds() -> None:
    milliseconds = [uuid.UUID(new_request_id()).int >> 80 for _ in range(1_000)]

    assert milliseconds == sorted(milliseconds)


def test_the_earlier_of_two_deadlines_counts() -> None:
    assert call(None).deadline_within(10.0) == 10.0
    assert call(5.0).deadline_within(10.0) == 5.0
    assert call(15.0).deadline_within(10.0) == 10.0


def test_clients_under_one_agreement_are_one_identity() -> None:
    assert identity(client("a", "one"), "agr-lab") == identity(client("b", "two"), "agr-lab")


def test_a_client_is_one_identity_whatever_its_subjects() -> None:
    assert identity(client("a", "one", "alice")) == identity(client("a", "one", "bob"))


def test_identities_that_differ_are_spelled_differently() -> None:
    names = [
        identity(client("a", "b")),
        identity(client("a b", "")),
        identity(client("b", "a")),
        identity(client("", "agr-lab")),
        identity(client("a", "b"), "agr-lab"),
        identity(client("a", "b"), "agr-other"),
        identity(client("", "anonymous")),
        identity(anonymous()),
    ]

    assert len(set(names)) == len(names)


def test_a_cached_prefix_is_shared_inside_an_identity_and_by_the_public_not_at_all() -> None:
    partner, public = Caller(client("a", "one"), PEER), Caller(anonymous(), PEER)

    assert cache_salt_of(partner, granted("agr-lab")) == identity_of(partner, granted("agr-lab"))
    assert cache_salt_of(partner, granted()) == identity_of(partner, granted())
    assert cache_salt_of(public, granted()) == ""
