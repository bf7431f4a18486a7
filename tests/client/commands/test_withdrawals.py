from __future__ import annotations

import json

import grpc
import pytest
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.v1.withdrawal_service_pb2 import (
    ClientTarget,
    LiftingSignature,
    LiftWithdrawalRequest,
    LiftWithdrawalResponse,
    ListWithdrawalsResponse,
    Withdrawal,
    WithdrawalTarget,
)

ISSUER = "https://issuer.example"
TIME = Timestamp(seconds=1_770_000_000)
MODEL = Withdrawal(
    id="w-1",
    target=WithdrawalTarget(model="m"),
    create_time=TIME,
    justification="Misuse\x1b[2J.",
    operator=f"olga of {ISSUER}",
)
CLIENT = Withdrawal(
    id="w-2",
    target=WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")),
    create_time=TIME,
    justification="Spam.",
    operator=f"otto of {ISSUER}",
    expire_time=Timestamp(seconds=1_770_003_600),
)
OPENED = "no longer closed by it: model m\n"


def will_list(server: FakeServer, *withdrawals: Withdrawal) -> None:
    server.will("ListWithdrawals", [ListWithdrawalsResponse(withdrawals=withdrawals)])
    server.will("LiftWithdrawal", [LiftWithdrawalResponse()])


def test_the_list_shows_what_since_when_by_whom_and_why(server: FakeServer) -> None:
    will_list(server, MODEL, CLIENT)

    result = sluicegate("withdraw", "list", "--target", server.target)

    heading, first, second = [line.rstrip() for line in result.stdout.splitlines() if line.strip()]
    since, until = "2026-02-02 02:40:00 UTC", "2026-02-02 03:40:00 UTC"
    assert result.exit_code == 0
    assert heading.split() == ["id", "closed", "since", "until", "operator", "justification"]
    assert first.split() == f"w-1 model m {since} olga of {ISSUER} Misuse[2J.".split()
    assert second.split() == f"w-2 client app of {ISSUER} {since} {until} otto of {ISSUER} Spam.".split()


def test_an_empty_list_is_said(server: FakeServer) -> None:
    will_list(server)

    result = sluicegate("withdraw", "list", "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, "nothing is closed\n")


def test_scripts_get_an_array(server: FakeServer) -> None:
    newer = Withdrawal(id="w-3", target=WithdrawalTarget.FromString(b"\xf2\x01\x01x"), create_time=TIME)
    will_list(server, MODEL, newer)

    result = sluicegate("withdraw", "list", "--json", "--target", server.target)

    first, second = json.loads(result.stdout)
    assert first == {
        "id": "w-1",
        "target": {"kind": "model", "model": "m"},
        "created": "2026-02-02T02:40:00+00:00",
        "justification": "Misuse\x1b[2J.",
        "operator": f"olga of {ISSUER}",
        "expires": None,
    }
    assert (second["id"], second["target"]) == ("w-3", None)


def test_a_kind_of_a_newer_server_stays_in_the_table(server: FakeServer) -> None:
    will_list(server, Withdrawal(id="w-3", target=WithdrawalTarget.FromString(b"\xf2\x01\x01x"), create_time=TIME))

    result = sluicegate("withdraw", "list", "--target", server.target)

    assert "something that only newer clients know" in result.stdout


def lift(server: FakeServer, id_: str, *more: str) -> tuple[int, str, str]:
    result = sluicegate("withdraw", "lift", id_, "--justification", "Over.", *more, "--target", server.target)
    return result.exit_code, result.stdout, result.stderr


def test_lifting_says_what_it_opens_and_passes_the_signatures_on(server: FakeServer) -> None:
    will_list(server, MODEL, CLIENT)

    ended = lift(server, "w-1", "--signature", "release-lead=AA-_", "--signature", "safety-lead=BBBB")

    told = f"asking to lift w-1: model m, closed since 2026-02-02 02:40:00 UTC, by olga of {ISSUER}: Misuse[2J.\n"
    assert ended == (0, OPENED, told)
    assert server.calls[-1].request == LiftWithdrawalRequest(
        id="w-1",
        justification="Over.",
        signatures=[
            LiftingSignature(signer="release-lead", value="AA-_"),
            LiftingSignature(signer="safety-lead", value="BBBB"),
        ],
    )


def test_lifting_says_what_else_closes_the_same(server: FakeServer) -> None:
    twin = Withdrawal(id="w-3", target=MODEL.target, create_time=TIME)
    will_list(server, MODEL, CLIENT, twin)

    _, shown, _ = lift(server, "w-1")

    assert shown == OPENED + "still closed by: w-3\n"


def test_a_dry_run_lifts_nothing_and_says_so(server: FakeServer) -> None:
    will_list(server, MODEL)

    _, shown, _ = lift(server, "w-1", "--dry-run")

    assert shown == "would no longer be closed by it: model m\n"
    assert server.calls[-1].asked(LiftWithdrawalRequest).validate_only


def test_a_withdrawal_that_the_list_has_not_yet_is_lifted_all_the_same(server: FakeServer) -> None:
    will_list(server)

    assert lift(server, "w-9") == (0, "no longer closed by it: what w-9 closed\n", "")


def test_missing_signatures_are_told_with_what_to_do(server: FakeServer) -> None:
    will_list(server, MODEL)
    refused = Refusal(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="SIGNATURES_REQUIRED",
        text="More signatures are needed.",
        metadata={"needed": "2", "valid": "0"},
    )
    server.will("LiftWithdrawal", [refused])

    code, shown, told = lift(server, "w-1")

    assert (code, shown) == (1, "")
    assert told.splitlines()[1:] == [
        "sluicegate: More signatures are needed. (SIGNATURES_REQUIRED)",
        "  have 2 signers sign the lifting of this withdrawal (`sluicegate policy sign-lifting`); 0 valid so far",
    ]


@pytest.mark.parametrize(
    ("signatures", "text"),
    [
        (["AAAA"], "--signature takes SIGNER=VALUE, as `sluicegate policy sign-lifting` prints it"),
        (["=AAAA"], "--signature takes SIGNER=VALUE, as `sluicegate policy sign-lifting` prints it"),
        (["lead="], "--signature takes SIGNER=VALUE, as `sluicegate policy sign-lifting` prints it"),
        (["lead=AAAA", "lead=BBBB"], "--signature names lead twice; each signer counts once"),
    ],
)
def test_what_is_no_signature_is_refused_before_a_call(server: FakeServer, signatures: list[str], text: str) -> None:
    options = [part for each in signatures for part in ("--signature", each)]

    assert lift(server, "w-1", *options) == (2, "", f"sluicegate: {text}\n")
    assert server.calls == []


def test_nothing_is_lifted_without_a_justification(server: FakeServer) -> None:
    result = sluicegate("withdraw", "lift", "w-1", "--target", server.target)

    assert (result.exit_code, server.calls) == (2, [])
