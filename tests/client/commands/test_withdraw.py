from __future__ import annotations

import base64
import json
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Refusal
from client_terminal import sluicegate
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.v1.withdrawal_service_pb2 import (
    ClientTarget,
    CreateWithdrawalRequest,
    CreateWithdrawalResponse,
    IssuedBeforeTarget,
    KeyTarget,
    SubjectTarget,
    TokenTarget,
    Withdrawal,
    WithdrawalTarget,
)

ISSUER = "https://issuer.example"
OF_ISSUER = ("--iss", ISSUER)
TIME = Timestamp(seconds=1_770_000_000)
COMMANDS = ("token", "client", "subject", "key", "agreement", "model", "stage", "list", "lift")


def will_close(server: FakeServer, target: WithdrawalTarget, *, expires: bool = False) -> None:
    made = Withdrawal(id="w-1", target=target, create_time=TIME, justification="Drill.", operator="olga of them")
    if expires:
        made.expire_time.FromSeconds(1_770_003_600)
    server.will("CreateWithdrawal", [CreateWithdrawalResponse(withdrawal=made)])


def token_file(directory: Path, claims: object) -> Path:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    path = directory / "leaked.token"
    path.write_bytes(b"eyJhbGciOiJFUzI1NiJ9." + payload + b".c2lnbmF0dXJl\n")
    return path


CASES: list[tuple[tuple[str, ...], WithdrawalTarget, str]] = [
    (
        ("token", *OF_ISSUER, "--jti", "t-1"),
        WithdrawalTarget(token=TokenTarget(issuer=ISSUER, token_id="t-1")),
        f"token t-1 of {ISSUER}",
    ),
    (
        ("token", *OF_ISSUER, "--issued-before", "2026-02-02T03:40:00+01:00", "--client", "app", "--subject", "alice"),
        WithdrawalTarget(
            issued_before=IssuedBeforeTarget(issuer=ISSUER, time=TIME, client_id="app", subject="alice"),
        ),
        f"tokens of {ISSUER}, client app, subject alice, issued before 2026-02-02 02:40:00 UTC",
    ),
    (
        ("token", *OF_ISSUER, "--issued-before", "now"),
        WithdrawalTarget(issued_before=IssuedBeforeTarget(issuer=ISSUER)),
        f"tokens of {ISSUER}, issued before now",
    ),
    (
        ("client", "app", *OF_ISSUER),
        WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")),
        f"client app of {ISSUER}",
    ),
    (
        ("subject", "alice", *OF_ISSUER),
        WithdrawalTarget(subject=SubjectTarget(issuer=ISSUER, subject="alice")),
        f"subject alice of {ISSUER}",
    ),
    (("key", "k-1", *OF_ISSUER), WithdrawalTarget(key=KeyTarget(issuer=ISSUER, key_id="k-1")), f"key k-1 of {ISSUER}"),
    (("agreement", "agr-1"), WithdrawalTarget(agreement="agr-1"), "agreement agr-1"),
    (("model", "gpt2-774m"), WithdrawalTarget(model="gpt2-774m"), "model gpt2-774m"),
    (("stage", "s1"), WithdrawalTarget(stage="s1"), "what stage s1 does not open"),
]


@pytest.mark.parametrize(("arguments", "target", "what"), [pytest.param(*each, id=each[0][0]) for each in CASES])
def test_every_kind_is_closed_at_once_and_said(
    server: FakeServer, arguments: tuple[str, ...], target: WithdrawalTarget, what: str
) -> None:
    will_close(server, target)

    result = sluicegate("withdraw", *arguments, "--justification", "Drill.", "--target", server.target)

    assert (result.exit_code, result.stdout) == (0, f"closed: {what}\n  withdrawal w-1\n")
    assert [call.request for call in server.calls] == [CreateWithdrawalRequest(target=target, justification="Drill.")]


def test_a_token_in_a_file_is_closed_without_being_sent(server: FakeServer, tmp_path: Path) -> None:
    target = WithdrawalTarget(token=TokenTarget(issuer=ISSUER, token_id="t-1"))
    will_close(server, target, expires=True)
    leaked = token_file(tmp_path, {"iss": ISSUER, "jti": "t-1", "sub": "alice"})

    result = sluicegate(
        *("withdraw", "token", "--from-file", leaked, "--justification", "Drill.", "--target", server.target)
    )

    assert result.stdout == (f"closed: token t-1 of {ISSUER}\n  withdrawal w-1, until 2026-02-02 03:40:00 UTC\n")
    (call,) = server.calls
    assert call.request == CreateWithdrawalRequest(target=target, justification="Drill.")
    assert "authorization" not in call.metadata


@pytest.mark.parametrize("claims", [{"iss": ISSUER}, {"iss": ISSUER, "jti": 7}, {"iss": None, "jti": "t"}, [], "x", 7])
def test_a_file_without_issuer_and_id_is_told_and_not_quoted(tmp_path: Path, claims: object) -> None:
    result = sluicegate("withdraw", "token", "--from-file", token_file(tmp_path, claims), "--justification", "Drill.")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"sluicegate: {tmp_path}/leaked.token has no access token with `iss` and `jti`\n"


@pytest.mark.parametrize("content", [b"", b"secret", b"a.b", b"a.!.c", b"a.e30.c.d.e", b"a." + b"W1tb" * 8_000 + b".c"])
def test_a_file_that_holds_no_token_is_told_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)

    result = sluicegate("withdraw", "token", "--from-file", tmp_path / "file", "--justification", "Drill.")

    assert result.stderr == f"sluicegate: {tmp_path}/file has no access token with `iss` and `jti`\n"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    result = sluicegate("withdraw", "token", "--from-file", tmp_path / "none", "--justification", "Drill.")

    assert (result.exit_code, result.stderr) == (
        2,
        f"sluicegate: {tmp_path}/none cannot be read: No such file or directory\n",
    )


ONE_OF = "give exactly one of --jti, --from-file and --issued-before"
NO_ISSUER = "--iss is missing: ids and times count together with their issuer"
ZONE = "--issued-before takes a time with its zone, as 2026-01-20T09:00:00Z, or `now`"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), ONE_OF),
        (OF_ISSUER, ONE_OF),
        ((*OF_ISSUER, "--jti", "t-1", "--issued-before", "now"), ONE_OF),
        (("--jti", "t-1"), NO_ISSUER),
        (("--issued-before", "now"), NO_ISSUER),
        ((*OF_ISSUER, "--jti", "t-1", "--client", "app"), "--client and --subject go with --issued-before"),
        ((*OF_ISSUER, "--jti", "t-1", "--subject", "alice"), "--client and --subject go with --issued-before"),
        ((*OF_ISSUER, "--issued-before", "yesterday"), ZONE),
        ((*OF_ISSUER, "--issued-before", "2026-01-20T09:00:00"), ZONE),
        ((*OF_ISSUER, "--issued-before", "2026-01-20"), ZONE),
        ((*OF_ISSUER, "--issued-before", ""), ZONE),
    ],
)
def test_what_names_no_token_is_refused_before_a_call(
    server: FakeServer, arguments: tuple[str, ...], text: str
) -> None:
    result = sluicegate("withdraw", "token", *arguments, "--justification", "Drill.", "--target", server.target)

    assert (result.exit_code, result.stderr) == (2, f"sluicegate: {text}\n")
    assert server.calls == []


def test_a_token_in_a_file_says_itself_whose_it_is(server: FakeServer, tmp_path: Path) -> None:
    leaked = token_file(tmp_path, {"iss": ISSUER, "jti": "t-1"})

    result = sluicegate(
        *("withdraw", "token", "--from-file", leaked, *OF_ISSUER),
        *("--justification", "Drill.", "--target", server.target),
    )

    assert (result.exit_code, server.calls) == (2, [])
    assert result.stderr == "sluicegate: --from-file goes without --iss: the token says whose it is\n"


def test_a_dry_run_closes_nothing_and_says_so(server: FakeServer) -> None:
    target = WithdrawalTarget(model="m")
    will_close(server, target)
    arguments = ("withdraw", "model", "m", "--justification", "Drill.", "--dry-run", "--target", server.target)

    shown, told = sluicegate(*arguments), sluicegate(*arguments, "--json")

    assert (shown.exit_code, shown.stdout) == (0, "would be closed: model m\n")
    assert json.loads(told.stdout)["id"] is None
    asked = CreateWithdrawalRequest(target=target, justification="Drill.", validate_only=True)
    assert [call.request for call in server.calls] == [asked, asked]


def test_scripts_get_the_withdrawal_with_the_kind_of_its_target(server: FakeServer) -> None:
    will_close(server, WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")))

    result = sluicegate(
        *("withdraw", "client", "app", *OF_ISSUER, "--justification", "Drill.", "--json", "--target", server.target)
    )

    assert json.loads(result.stdout) == {
        "id": "w-1",
        "target": {"kind": "client", "issuer": ISSUER, "client_id": "app"},
        "created": "2026-02-02T02:40:00+00:00",
        "justification": "Drill.",
        "operator": "olga of them",
        "expires": None,
    }


def test_a_slip_in_a_name_is_told_with_its_field(server: FakeServer) -> None:
    refused = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="REQUEST_INVALID",
        text="The request is invalid.",
        violations=[("target.model", "is the id of a model of the policy")],
    )
    server.will("CreateWithdrawal", [refused])

    result = sluicegate("withdraw", "model", "gpt2", "--justification", "Drill.", "--target", server.target)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "target.model: is the id of a model of the policy (REQUEST_INVALID)" in result.stderr


@pytest.mark.parametrize("command", ["model", "agreement", "stage"])
def test_nothing_is_closed_without_a_justification(server: FakeServer, command: str) -> None:
    result = sluicegate("withdraw", command, "x", "--target", server.target)

    assert (result.exit_code, server.calls) == (2, [])
    assert "--justification" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = sluicegate("withdraw", command, "--help", env={"COLUMNS": "200"})

    assert result.exit_code == 0
    assert "--token-file" in result.stdout
    assert "`sluicegate --help` lists the exit codes." in result.stdout
    assert command == "list" or f"sluicegate withdraw {command} " in result.stdout


def test_help_names_every_command_and_the_scope() -> None:
    result = sluicegate("withdraw", "--help", env={"COLUMNS": "200"})

    assert all(f" {command} " in result.stdout for command in COMMANDS)
    assert "release:withdraw" in result.stdout
