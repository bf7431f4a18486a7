"""The reasons: one list in Python and on the wire."""

from __future__ import annotations

from sluicegate.auth import Reason
from sluicegate.v1 import reason_pb2

ON_THE_WIRE = {value.name.removeprefix("REASON_") for value in reason_pb2.Reason.DESCRIPTOR.values if value.number != 0}


def test_the_reasons_are_those_of_the_proto_without_their_prefix() -> None:
    assert {reason.name for reason in Reason} == ON_THE_WIRE


def test_a_reason_is_its_own_name() -> None:
    assert all(reason == reason.name == str(reason) for reason in Reason)
