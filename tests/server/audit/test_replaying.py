from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit_cli import run
from audit_logs import START, closing, files, opening, records, write_log
from issuer import ISSUER
from policies import agreement, policy, release, write_policy

from sluicegate.auth import Reason
from sluicegate.auth.recorded import read_records
from sluicegate.auth.simulation import Shift, simulate
from sluicegate.server.audit import Opening, OwnCalls, Pseudonyms, create_secret, read_secret
from sluicegate.server.audit.replaying import Replaying

NAMES = Pseudonyms(bytes(32))
LAB = (ISSUER, "lab-app")
LENIENT = agreement(output={}, token={}, purposes=["human-susceptibility"], models=["gpt2-774m", "gpt2-1558m"])


def call(name: str, **changes: object) -> Opening:
    """A partner's call as the server writes it."""
    return opening(name, **{"client": NAMES.of("client", *LAB), **changes})


def test_a_client_that_a_policy_names_gets_its_name_back(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [call("one"), closing("one"), call("two", client="f" * 32), closing("two")])

    second, first = list(OwnCalls(tmp_path / "log", NAMES).recent([LAB]))

    assert first is not None
    assert second is not None
    assert (first.issuer, first.client) == LAB
    assert (second.issuer, second.client) == ("unknown", "f" * 32)
    assert (first.model, first.action, first.purpose) == ("gpt2-774m", "generate", "human-susceptibility")
    assert first.at == START + 1


def test_a_recorded_call_is_decided_as_it_was(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [call("one"), closing("one")])
    before, after = policy(release(), LENIENT), policy(release(), agreement(status="suspended"))

    calls = [each for each in OwnCalls(tmp_path / "log", NAMES).recent([LAB]) if each is not None]

    assert simulate(before, before, calls).totals == {Shift.SERVED: 1}
    assert simulate(before, after, calls).totals == {Shift.LOST: 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"purpose": "other"},
        {"decision": "denied", "reason": Reason.NETWORK_NOT_PERMITTED},
        {"decision": "denied", "reason": Reason.STEP_UP_REQUIRED},
        {"decision": "denied", "reason": Reason.TOKEN_BINDING_REQUIRED},
        {"decision": "denied", "reason": Reason.TOKEN_LIFETIME_EXCESSIVE},
    ],
)
def test_a_call_whose_entry_leaves_out_what_decided_it_is_none(tmp_path: Path, changes: dict[str, object]) -> None:
    write_log(tmp_path / "log", [call("one", **changes)])

    assert list(OwnCalls(tmp_path / "log", NAMES).recent([LAB])) == [None]


def test_what_asked_for_no_model_is_no_call(tmp_path: Path) -> None:
    denied = {"decision": "denied", "reason": Reason.SCOPE_MISSING}
    write_log(tmp_path / "log", [call("one", action="CreateWithdrawal", model=None, **denied)])

    assert list(OwnCalls(tmp_path / "log", NAMES).recent([LAB])) == []


def test_the_latest_call_comes_first_over_all_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_log(tmp_path / "log", [call(f"{name}-{n}", purpose=None) for n in range(2)])

    times = [each.at for each in OwnCalls(tmp_path / "log", NAMES).recent([LAB]) if each is not None]

    assert times == sorted(times, reverse=True)
    assert len(times) == 4


def test_a_line_that_is_being_written_is_passed_over(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [call("one"), closing("one")])
    with files(tmp_path / "log")[-1].open("ab") as file:
        file.write(b'{"entry":{"action":"gen')

    assert len(list(OwnCalls(tmp_path / "log", NAMES).recent([LAB]))) == 1


def test_tokenizing_is_decided_as_generation_is(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [call("one", action="tokenize")])
    [record] = [each for each in records(tmp_path / "log") if Replaying(NAMES, [LAB]).asked(each)]

    found = Replaying(NAMES, [LAB]).call(record)

    assert found is not None
    assert found.action == "generate"


# --- the command


def test_the_command_writes_what_policy_simulate_reads(tmp_path: Path) -> None:
    create_secret(tmp_path / "secret")
    names = Pseudonyms(read_secret(tmp_path / "secret"))
    write_log(
        tmp_path / "log",
        [opening("one", client=names.of("client", *LAB)), opening("two", decision="denied", model="other")],
    )
    write_policy(tmp_path / "policy", release(), LENIENT)

    result = run("requests", tmp_path / "log", "--secret", tmp_path / "secret", "--policy", tmp_path / "policy")

    [found] = read_records(line.encode() for line in result.stdout.splitlines())
    assert result.exit_code == 0
    assert (found.issuer, found.client) == LAB
    assert json.loads(result.stdout)["purpose"] == "human-susceptibility"
    assert "1 call(s) left out" in result.stderr


def test_the_command_says_what_is_wrong_with_a_secret_or_a_policy(tmp_path: Path) -> None:
    create_secret(tmp_path / "secret")
    write_log(tmp_path / "log", [])

    no_secret = run("requests", tmp_path / "log", "--secret", tmp_path / "none", "--policy", tmp_path)
    no_policy = run("requests", tmp_path / "log", "--secret", tmp_path / "secret", "--policy", tmp_path / "none")

    assert (no_secret.exit_code, "No such file" in no_secret.stderr) == (1, True)
    assert (no_policy.exit_code, "release.yaml" in no_policy.stderr) == (1, True)


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first, second = (run("secret", tmp_path / "secret") for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "File exists" in second.stderr
    assert len(read_secret(tmp_path / "secret")) == 32
