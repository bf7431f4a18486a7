"""`sluicegate audit verify`, `show` and `export`."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import pytest
from audit_cli import run
from audit_logs import (
    KEY,
    OTHER_KEY,
    OTHER_PUBLIC_KEY,
    PUBLIC_KEY,
    START,
    FakeClock,
    calls,
    closing,
    files,
    opening,
    records,
    write_log,
)

from sluicegate.auth import Reason, SigningKey, write_signing_key
from sluicegate.server.audit import Head, WithdrawalsInForce, in_force
from sluicegate.server.audit.entries import Denials, Withdrawn
from sluicegate.server.audit.form import time_text
from sluicegate.server.state import ModelTarget, Withdrawal, open_store

KEY_OPTION = ("--public-key", PUBLIC_KEY)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two partners and two models, a denial, strangers, a withdrawal."""
    write_log(
        tmp_path / "log",
        [
            opening("lab-1"),
            closing("lab-1", redactions={"email": 2}),
            opening("uni-1", partner="example-uni", model="gpt2-1558m"),
            opening("lab-2", decision="denied", reason=Reason.MODEL_NOT_RELEASED, code="PERMISSION_DENIED"),
            closing("uni-1", finish=None, code="UNAVAILABLE", reason=Reason.ENGINE_LOST),
            Denials(since=time_text(START), until=time_text(START + 60), counts={Reason.TOKEN_EXPIRED: 5}),
            Withdrawn(id="w-1", justification="Misuse.", withdrawal="model", target="gpt2-1558m", by=("a" * 32,)),
        ],
    )
    return tmp_path / "log"


def damage(log: Path) -> None:
    [path] = files(log)
    path.write_bytes(path.read_bytes().replace(b'"emitted_tokens":12', b'"emitted_tokens":11', 1))


# --- verify


def test_a_good_log_verifies_and_says_how_far(log: Path) -> None:
    result = run("verify", log, *KEY_OPTION)

    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("complete to entry 9", "signatures hold to entry 8", "(given)", "no --anchor", "replica replica-1"):
        assert text in result.stdout


def test_an_anchor_and_a_key_leave_nothing_to_add(log: Path) -> None:
    last = records(log)[-1]
    [report] = json.loads(run("verify", log, "--json").stdout)["logs"]
    head = Head(report["log"], last.number, last.hash.hex())

    result = run("verify", log, *KEY_OPTION, "--anchor", head)

    assert result.exit_code == 0
    assert "no --anchor" not in result.stdout


def state_with(tmp_path: Path, **heads: Head) -> str:
    """The URL of a state store with these heads, by replica."""
    url = f"sqlite:////{tmp_path}/state.db"

    async def write() -> None:
        store = await open_store(url)
        for replica, head in heads.items():
            await store.anchor(replica.replace("_", "-"), head.log, str(head))
        await store.close()

    asyncio.run(write())
    return url


def test_the_state_store_anchors_the_log_of_each_replica(log: Path, tmp_path: Path) -> None:
    last = records(log)[-1]
    [report] = json.loads(run("verify", log, "--json").stdout)["logs"]
    others = Head("f" * 32, 7, "f" * 64)
    state = state_with(tmp_path, replica_1=Head(report["log"], last.number, last.hash.hex()), replica_2=others)

    good = run("verify", log, *KEY_OPTION, "--state", state)
    [path] = files(log)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    cut = run("verify", log, *KEY_OPTION, "--state", state)

    assert (good.exit_code, good.stderr, "cannot be told" in good.stdout) == (0, "", False)
    assert (cut.exit_code, f"entry {last.number} was anchored" in cut.stderr) == (1, True)


def test_a_state_store_that_knows_nothing_of_the_log_proves_nothing(log: Path, tmp_path: Path) -> None:
    result = run("verify", log, *KEY_OPTION, "--state", state_with(tmp_path, elsewhere=Head("f" * 32, 7, "f" * 64)))

    assert (result.exit_code, "[not_anchored]" in result.stderr) == (1, True)


def test_a_state_store_that_has_forgotten_withdrawals_is_told_from_one_that_knows_them(tmp_path: Path) -> None:
    url, log = f"sqlite:////{tmp_path}/state.db", tmp_path / "log"

    async def changed(*ids: str) -> WithdrawalsInForce:
        """What a replica would tell of the store after these withdrawals."""
        store = await open_store(url)
        for id_ in ids:
            await store.withdraw(Withdrawal(id_, ModelTarget("gpt2-1558m"), 1_770_000_000, "Misuse.", "olga"))
        version = (await store.entries()).version
        await store.close()
        return in_force(version)

    head = write_log(log, [asyncio.run(changed()), asyncio.run(changed("w-1", "w-2")), *calls(1)])
    state_with(tmp_path, replica_1=head)
    knows = run("verify", log, *KEY_OPTION, "--state", url)
    (tmp_path / "state.db").unlink()
    asyncio.run(changed("w-1"))
    state_with(tmp_path, replica_1=head)
    forgot = run("verify", log, *KEY_OPTION, "--state", url)

    assert (knows.exit_code, knows.stderr) == (0, "")
    assert (forgot.exit_code, "[store_forgot]" in forgot.stderr, "change 2" in forgot.stderr) == (1, True, True)


def test_the_key_may_be_given_as_its_file(log: Path, tmp_path: Path) -> None:
    write_signing_key(tmp_path / "own.jwk", SigningKey("k", "EdDSA", KEY))
    write_signing_key(tmp_path / "other.jwk", SigningKey("k", "EdDSA", OTHER_KEY))

    own, other = (run("verify", log, "--public-key", tmp_path / f"{name}.jwk") for name in ("own", "other"))
    none = run("verify", log, "--public-key", files(log)[0])

    assert (own.exit_code, other.exit_code, none.exit_code) == (0, 1, 2)


def test_a_head_that_is_kept_under_an_earlier_name_counts_too(log: Path, tmp_path: Path) -> None:
    last = records(log)[-1]
    [report] = json.loads(run("verify", log, "--json").stdout)["logs"]
    state = state_with(tmp_path, earlier_name=Head(report["log"], last.number + 5, "f" * 64))

    result = run("verify", log, *KEY_OPTION, "--state", state)

    assert (result.exit_code, f"entry {last.number + 5} was anchored" in result.stderr) == (1, True)


def test_another_log_in_a_replicas_place_is_found_by_the_state_store(log: Path, tmp_path: Path) -> None:
    state = state_with(tmp_path, replica_1=Head("f" * 32, 7, "f" * 64))

    result = run("verify", log, *KEY_OPTION, "--state", state)

    assert (result.exit_code, "is not the log that replica replica-1 had" in result.stderr) == (1, True)


def test_a_state_store_that_is_not_there_is_not_made(log: Path, tmp_path: Path) -> None:
    result = run("verify", log, "--state", f"sqlite:////{tmp_path}/typo.db")

    assert (result.exit_code, "no such file" in result.stderr) == (1, True)
    assert not (tmp_path / "typo.db").exists()


def test_without_a_key_the_log_vouches_for_itself_and_that_is_said(log: Path) -> None:
    assert "own word: give --public-key" in run("verify", log).stdout


def test_a_changed_log_is_refused_with_the_place(log: Path) -> None:
    damage(log)

    result = run("verify", log, *KEY_OPTION)

    assert result.exit_code == 1
    assert f"{files(log)[0]}:4: entry 3: " in result.stderr
    assert "NOT as it was written" in result.stdout


def test_problems_are_told_to_scripts(log: Path) -> None:
    damage(log)

    result = run("verify", log, "--json")

    told = json.loads(result.stdout)
    assert (result.exit_code, told["verified"], told["logs"][0]["verified"]) == (1, False, False)
    [problem] = told["problems"]
    assert (problem["kind"], problem["line"], problem["entry"]) == ("changed", 4, 3)


def test_another_key_than_the_known_one_is_found(log: Path) -> None:
    result = run("verify", log, "--public-key", OTHER_PUBLIC_KEY)

    assert (result.exit_code, "another key" in result.stderr) == (1, True)


def test_a_directory_without_a_log_is_said(tmp_path: Path) -> None:
    result = run("verify", tmp_path)

    assert (result.exit_code, result.stdout) == (1, f"{tmp_path}: no log\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", ".", "--public-key", "short"),
        ("verify", ".", "--anchor", "not-a-head"),
        ("show", ".", "--since", "yesterday"),
        ("show", ".", "--reason", "BECAUSE"),
        ("export", "."),
        ("export", ".", "--output", "x", "--format", "xml"),
    ],
)
def test_wrong_usage_is_told_apart_from_a_bad_log(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_hostile_log_cannot_steer_the_terminal(log: Path) -> None:
    [path] = files(log)
    path.write_bytes(path.read_bytes() + b'{"entry":{"\x1b[2J\n')

    result = run("verify", log)

    assert result.exit_code == 1
    assert "\x1b" not in result.output


# --- show


def shown(log: Path, *filters: str) -> list[str]:
    """Kind and call, or kind alone, of what is shown."""
    result = run("show", log, "--json", *filters)
    assert result.exit_code == 0
    found = [json.loads(line)["entry"] for line in result.stdout.splitlines()]
    return [each["kind"] + (f" {each['call']}" if "call" in each else "") for each in found]


def test_show_lists_entries_for_people(log: Path) -> None:
    result = run("show", log)

    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines)) == (0, 7)
    assert lines[0].startswith("2026-01-20T07:00:01.000Z  replica-1  opening")
    assert "lab-2 denied MODEL_NOT_RELEASED example-lab generate:gpt2-774m" in lines[3]
    assert "uni-1 ENGINE_LOST tokens=12 250 ms" in lines[4]
    assert "counts=TOKEN_EXPIRED=5" in lines[5]
    assert "target=gpt2-1558m lifted=False by=aaaa" in lines[6]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("--partner", "example-lab"), ["opening lab-1", "closing lab-1", "opening lab-2"]),
        (("--model", "gpt2-1558m"), ["opening uni-1", "closing uni-1"]),
        (("--reason", "MODEL_NOT_RELEASED"), ["opening lab-2"]),
        (("--reason", "ENGINE_LOST"), ["closing uni-1"]),
        (("--reason", "TOKEN_EXPIRED"), ["denials"]),
        (("--reason", "ENGINE_LOST", "--partner", "example-lab"), []),
        (("--since", "2026-01-20T07:00:06Z"), ["denials", "withdrawal", "checkpoint"]),
        (("--until", "2026-01-20T08:00:02+01:00", "--partner", "example-lab"), ["opening lab-1"]),
        (("--since", "2026-01-21"), []),
    ],
)
def test_show_chooses(log: Path, filters: tuple[str, ...], found: list[str]) -> None:
    assert shown(log, *filters) == found


def test_a_bad_log_is_shown_with_a_warning(log: Path) -> None:
    damage(log)

    result = run("show", log)

    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 7)
    assert "audit verify" in result.stderr


def test_replicas_are_shown_by_time(log: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "other", calls(3, "other"), clock=FakeClock(START + 0.5))

    lines = run("show", log, tmp_path / "other").stdout.splitlines()

    assert len(lines) == 13
    assert lines == sorted(lines, key=lambda line: line[:24])


# --- export


def test_an_export_is_a_table_of_calls(log: Path, tmp_path: Path) -> None:
    output = tmp_path / "calls.csv"

    result = run("export", log, "--output", output, *KEY_OPTION, "--partner", "example-lab")

    assert (result.exit_code, result.stdout) == (0, f"{output}\n")
    assert output.stat().st_mode & 0o777 == 0o600
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["call"]) for row in rows] == [
        ("opening", "lab-1"),
        ("closing", "lab-1"),
        ("opening", "lab-2"),
    ]
    assert (rows[0]["scopes"], rows[0]["reserved_tokens"], rows[0]["client"]) == ("generate:gpt2-774m", "64", "c" * 32)
    assert (rows[1]["redactions"], rows[1]["emitted_tokens"]) == ("email=2", "12")
    assert rows[2]["reason"] == "MODEL_NOT_RELEASED"


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [opening("a", kid="=HYPERLINK(1)", decision="denied")])
    output = tmp_path / "calls.csv"

    run("export", tmp_path / "log", "--output", output)

    with output.open(newline="") as file:
        assert next(csv.DictReader(file))["kid"] == "'=HYPERLINK(1)"


def test_an_export_for_programs_has_every_entry_as_it_stands(log: Path, tmp_path: Path) -> None:
    output = tmp_path / "calls.jsonl"

    run("export", log, "--output", output, "--format", "jsonl")

    exported = [json.loads(line) for line in output.read_text().splitlines()]
    stored = [json.loads(line) for line in files(log)[0].read_text().splitlines()]
    assert [{"entry": each["entry"], "hash": each["hash"]} for each in exported] == stored


def test_a_bad_log_is_not_exported_unless_that_is_asked_for(log: Path, tmp_path: Path) -> None:
    damage(log)
    output = tmp_path / "calls.csv"

    refused = run("export", log, "--output", output)
    after_refusal = sorted(path.name for path in tmp_path.iterdir())
    asked = run("export", log, "--output", output, "--unverified")

    assert (refused.exit_code, after_refusal) == (1, ["log"])
    assert "entry 3" in refused.stderr
    assert (asked.exit_code, asked.stdout) == (0, f"{output}: NOT VERIFIED\n")
    assert output.exists()


def test_an_export_replaces_no_file(log: Path, tmp_path: Path) -> None:
    output = tmp_path / "calls.csv"
    output.write_text("mine")

    result = run("export", log, "--output", output)

    assert (result.exit_code, output.read_text()) == (1, "mine")
    assert "exists" in result.stderr
    assert run("export", log, "--output", tmp_path / "absent" / "x.csv").exit_code == 1
