from __future__ import annotations

import uuid
from ipaddress import ip_address

from sluicegate.auth import Peer, anonymous
from sluicegate.server.caller import Call, Caller, new_request_id


def call(deadline: float | None) -> Call:
    return Call(Caller(anonymous(), Peer(ip_address("192.0.2.7"))), "request-1", 0.0, deadline)


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
