"""`sluicegate report`, as a shell runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import evidence_files as made
import pytest
import typer
from audit_logs import IDENTITY, OTHER_KEY, PUBLIC_KEY, FakeClock, calls, files, opening, records, write_log
from metrics_pages import page_server
from policies import write_policy
from report_logs import START
from typer.testing import CliRunner, Result

from sluicegate.auth import Reason
from sluicegate.evidence.collection import MAX_FILES
from sluicegate.server.audit import Decision, Withdrawn
from sluicegate.server.audit.entries import Entry
from sluicegate.server.report import commands
from sluicegate.server.report.commands import report

_app = typer.Typer(add_completion=False)
_app.command("report")(report)

PROGRAM = (
    "import sys, typer; from sluicegate.server.report import commands; commands.PROGRESS_ENTRIES = 5; "
    "commands.now_text = lambda: '2026-11-02T00:00:00.000Z'; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(commands.report); app()"
)
OCTOBER = ("--from", "2026-10-01", "--until", "2026-11-01")
KEY_OPTION = ("--public-key", PUBLIC_KEY)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "now_text", lambda: "2026-11-02T00:00:00.000Z")


def run(*arguments: object) -> Result:
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(_app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def entries(name: str) -> list[Entry]:
    denied = opening("x", decision=Decision.DENIED, reason=Reason.MODEL_NOT_RELEASED, code="PERMISSION_DENIED")
    return [
        *calls(8, name),
        *(replace(denied, call=f"{name}-denied-{n}") for n in range(6)),
        Withdrawn(id=name, withdrawal="model", target="gpt2-774m", by=("a" * 32,), justification="Ann asked."),
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_log(tmp_path / "log", entries("gate-0"), clock=FakeClock(START + 60))
    return tmp_path / "log"


def damage(log: Path) -> None:
    [path] = files(log)
    path.write_bytes(path.read_bytes().replace(b'"emitted_tokens":12', b'"emitted_tokens":11', 1))


def figures_of(*arguments: object) -> dict[str, Any]:
    result = run(*OCTOBER, *KEY_OPTION, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_report_is_a_page_and_a_text(log: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"

    result = run(*OCTOBER, "--audit", log, *KEY_OPTION, "--output", output, "--title", "October & more")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [str(output / "report.html"), str(output / "report.md")]
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "report.md"]
    assert "<h1>October &amp; more</h1>" in (output / "report.html").read_text()
    assert (output / "report.md").read_text().startswith("# October \\& more\n")


def test_the_figures_are_data_too(log: Path) -> None:
    told = figures_of("--audit", log)

    last = records(log)[-1]
    [row] = told["logs"]
    assert (told["requests"], told["denials"]) == ({"value": 8, "withheld": 0}, {"value": 6, "withheld": 0})
    assert row["last_head"] == f"{row['log']}:{last.number}:{last.hash.hex()}"
    assert (row["is_verified"], row["is_key_given"], row["is_anchored"]) == (True, True, False)
    [order] = told["withdrawals"]
    assert (order["target"], order["effect_seconds"]) == ("gpt2-774m", None)


def test_logs_of_replicas_are_counted_together(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_log(other, entries("gate-1"), clock=FakeClock(START + 90), identity=replace(IDENTITY, replica="replica-2"))

    told = figures_of("--audit", log, "--audit", other)

    assert told["requests"] == {"value": 16, "withheld": 0}
    assert [row["replica"] for row in told["logs"]] == ["replica-1", "replica-2"]


def test_the_same_logs_make_the_same_report(log: Path, tmp_path: Path) -> None:
    pages = []
    for name, seed in (("one", "1"), ("two", "2")):
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *OCTOBER, "--audit", log, "--output", tmp_path / name],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        pages.append([(tmp_path / name / file).read_bytes() for file in ("report.html", "report.md")])

    assert pages[0] == pages[1]


def test_a_log_that_does_not_verify_is_refused_unless_it_is_accepted(log: Path, tmp_path: Path) -> None:
    damage(log)

    refused = run(*OCTOBER, "--audit", log, *KEY_OPTION, "--output", tmp_path / "report")
    after = (tmp_path / "report").exists()
    accepted = run(*OCTOBER, "--audit", log, *KEY_OPTION, "--output", tmp_path / "report", "--accept-unverified")

    assert (refused.exit_code, refused.stdout, after) == (1, "", False)
    assert "entry 3" in refused.stderr
    assert "no report: the logs are not as they were written (1 problem(s))" in refused.stderr
    assert accepted.exit_code == 0
    assert (tmp_path / "report/report.md").read_text().startswith("**NOT VERIFIED: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--public-key", "{other}"), "another key"),
        (("--anchor", "{anchor}"), "was anchored"),
        (("--audit", "{missing}"), "cannot be read"),
    ],
)
def test_keys_and_anchors_count_as_they_do_for_verify(
    log: Path, tmp_path: Path, arguments: tuple[str, str], text: str
) -> None:
    header = records(log)[0].entry
    places = {
        "other": "A" * 43,
        "anchor": f"{getattr(header, 'log', '')}:99:{'f' * 64}",
        "missing": str(tmp_path / "missing"),
    }

    result = run(*OCTOBER, "--audit", log, *(each.format(**places) for each in arguments), "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr


def test_another_key_is_no_key(log: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "forged", entries("gate-0"), clock=FakeClock(START), key=OTHER_KEY)

    assert run(*OCTOBER, "--audit", tmp_path / "forged", *KEY_OPTION, "--json").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--json",),
        ("--from", "2026-10-01", "--until", "2026-10-01", "--audit", ".", "--json"),
        ("--from", "soon", "--until", "2026-10-01", "--audit", ".", "--json"),
        (*OCTOBER, "--json"),
        (*OCTOBER, "--audit", "."),
        (*OCTOBER, "--audit", ".", "--json", "--prometheus", "prometheus:9090"),
        (*OCTOBER, "--audit", ".", "--json", "--user", "ann"),
    ],
)
def test_wrong_usage_is_told_apart(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_period_that_is_not_over_is_cut_at_now_and_said_first(log: Path, tmp_path: Path) -> None:
    result = run("--from", "2026-10-01", "--until", "2027-01-01", "--audit", log, "--output", tmp_path / "report")

    assert result.exit_code == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "2026-10-01 00:00:00 to 2026-11-02 00:00:00, UTC" in text
    assert "Read first:\n\n- The period is not over: figures up to 2026" in text
    assert "- 1 withdrawal\n" in text


def test_a_period_that_has_not_begun_is_wrong_usage(log: Path) -> None:
    result = run("--from", "2026-12-01", "--until", "2027-01-01", "--audit", log, "--json")

    assert result.exit_code == 2
    assert "--from is in the future" in result.stderr


def test_a_report_replaces_no_file(log: Path, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")

    result = run(*OCTOBER, "--audit", log, "--output", tmp_path)

    assert (result.exit_code, (tmp_path / "report.md").read_text()) == (1, "mine")
    assert "is there already" in result.stderr
    assert not (tmp_path / "report.html").exists()
    assert run(*OCTOBER, "--audit", log, "--output", tmp_path / "absent" / "report").exit_code == 1


def test_a_prometheus_that_does_not_answer_makes_no_report(log: Path) -> None:
    with page_server() as server:
        server.answers["/api/v1/query_range"] = (200, b"<html>Login</html>")

        result = run(*OCTOBER, "--audit", log, "--json", "--prometheus", server.url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"--prometheus: {server.url}: answered no JSON: is it a Prometheus?" in result.stderr


def test_signals_come_from_a_prometheus(log: Path) -> None:
    with page_server() as server:
        for endpoint, kind in (("query", "vector"), ("query_range", "matrix")):
            body = {"status": "success", "data": {"resultType": kind, "result": []}}
            server.answers[f"/api/v1/{endpoint}"] = (200, json.dumps(body).encode())

        told = figures_of("--audit", log, "--prometheus", server.url)

    signals = told["signals"]
    assert isinstance(signals, dict)
    assert signals["alerts"] == []
    assert signals["gaps"][0].startswith("Prometheus has nothing of any server in 744 of 744")
    assert not any("No Prometheus was asked" in each for each in told["reservations"])


def test_evidence_is_told_and_what_is_none_is_named(log: Path, tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    made.write(evidence, "bias.json", made.bias("demo-m", stereotype=58, other=42))
    (evidence / "notes.json").write_text("{}")

    result = run(*OCTOBER, "--audit", log, *KEY_OPTION, "--evidence", evidence, "--json")

    told = json.loads(result.stdout)
    [row] = told["evaluations"]["bias"]
    assert (row["origin"]["model"], row["share"]) == ("demo-m", 0.58)
    assert "notes.json has a `schema` that is none of" in result.stderr
    assert "1 file(s) that were given as evidence are none, and are left out." in told["reservations"]


def test_evidence_beside_the_policy_counts_where_no_other_is_named(log: Path, tmp_path: Path) -> None:
    directory = write_policy(tmp_path / "policy")
    made.write(directory / "evidence", "bias.json", made.bias("gpt2-355m"))
    made.write(tmp_path / "elsewhere", "bias.json", made.bias("gpt2-355m", suite="winobias"))

    beside = figures_of("--audit", log, "--policy", directory)
    elsewhere = figures_of("--audit", log, "--policy", directory, "--evidence", tmp_path / "elsewhere")

    assert [row["suite"] for row in beside["evaluations"]["bias"]] == ["occupations"]
    assert [row["suite"] for row in elsewhere["evaluations"]["bias"]] == ["winobias"]
    assert figures_of("--audit", log)["evaluations"] is None


def test_evidence_that_cannot_be_read_makes_no_report(log: Path) -> None:
    for number in range(MAX_FILES + 1):
        (log / f"{number}.json").touch()

    missing = run(*OCTOBER, "--audit", log, "--json", "--evidence", log / "missing")
    crowded = run(*OCTOBER, "--audit", log, "--json", "--evidence", log)

    assert (missing.exit_code, missing.stdout) == (2, "")
    assert (crowded.exit_code, crowded.stdout) == (1, "")
    assert "--evidence: log holds more than 256 files" in crowded.stderr


def test_a_policy_directory_that_is_no_good_makes_no_report(log: Path, tmp_path: Path) -> None:
    result = run(*OCTOBER, "--audit", log, "--json", "--policy", tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "release.yaml" in result.stderr


def test_progress_is_shown_on_a_terminal_and_only_there(log: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}

    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *OCTOBER, "--audit", log, "--json"],
        check=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    written = os.read(leader, 65_536)
    os.close(leader)

    assert b"reading logs" in written
    assert json.loads(result.stdout)["is_verified"]
    assert run(*OCTOBER, "--audit", log, "--json").stderr == ""
