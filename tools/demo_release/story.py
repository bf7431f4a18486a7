"""The story: what is shown, in order, and what must come out."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sluicegate.server.demo.steps import Command, Step
from sluicegate.server.demo.tour import Chapter
from sluicegate.server.demo.world import AGREEMENT, VISITOR, Caller
from tools.demo_release.steps import Rollback
from tools.demo_release.world import EVALUATOR, LAB, MODEL, OPERATOR, SIGNERS, ReleaseWorld

_PROMPT = "The state of the Union is"


def chapters(world: ReleaseWorld) -> list[Chapter]:
    """The story of demo-m, from stage s2 to s3 and back."""
    return [
        Chapter("Stage s2: demo-m is for partners", _closed(world)),
        Chapter("What is missing for s3", _missing(world)),
        Chapter("The evaluations", _evaluations(world)),
        Chapter("What the partner found", _finding(world)),
        Chapter("Two signatures", _signatures(world)),
        Chapter("Stage s3: demo-m is for everybody", _opened(world)),
        Chapter("A finding, and the way back", _back(world)),
        Chapter("What is on record", _report(world)),
    ]


def _closed(world: ReleaseWorld) -> tuple[Step, ...]:
    return (
        Command(
            say="A visitor asks demo-m. The stage says no.",
            line=_generate(world, VISITOR, "-n", "20"),
            exit_code=4,
            shows=("MODEL_NOT_RELEASED",),
        ),
    )


def _missing(world: ReleaseWorld) -> tuple[Step, ...]:
    return (
        Command(
            say="Stage s3 would open demo-m to everybody. Who asks for it is told what is missing.",
            line=f"{_advance(world)} --to s3",
            exit_code=1,
            shows=("missing bias of demo-m", "missing recital of demo-m", "missing finding:example-lab of demo-m"),
        ),
        Command(
            say="The server says the same to those who may read the plan.",
            line=f"sluicegate release status{_as(world, OPERATOR)}",
            shows=("missing   gate bias for demo-m",),
        ),
    )


def _evaluations(world: ReleaseWorld) -> tuple[Step, ...]:
    results, evidence = world.directory / "evaluations", world.policy / "evidence"
    return (
        Command(
            say="How often does demo-m find the stereotype of an occupation more likely than its counterpart?",
            line=f"sluicegate bias run --model {MODEL} --output {_path(results / 'bias')}{_as(world, EVALUATOR)}",
        ),
        Command(
            say="Does it recite a text that it should not know? Here: this project's own documents.",
            line=f"sluicegate memorisation run --model {MODEL} --samples 100 --max-output-tokens 64"
            f" --corpus {_path(world.corpus)} --output {_path(results / 'recital')}{_as(world, EVALUATOR)}",
        ),
        Command(
            say="Both left evidence, which goes beside the policy.",
            line=f"mkdir -p {_path(evidence)}"
            f" && cp {_path(results / 'bias' / MODEL)}.json {_path(evidence / 'bias.json')}"
            f" && cp {_path(results / 'recital' / MODEL)}.json {_path(evidence / 'recital.json')}"
            f" && sha256sum {_path(evidence)}/*.json",
        ),
    )


def _finding(world: ReleaseWorld) -> tuple[Step, ...]:
    found = _found(world, "low")
    cited = world.policy / "evidence/example-lab.json"
    return (
        Command(
            say="The lab has had demo-m for a while, and reports what it saw.",
            line=f"sluicegate finding new --model {MODEL} --kind bias --severity low"
            f" --summary 'Prefers one pronoun a little, in 120 pairs'{_as(world, LAB)}",
            shows=(AGREEMENT,),
        ),
        Command(
            say="An operator looks at it and accepts it.",
            line=f"sluicegate finding review {found} --status accepted --justification 'Seen here too.'"
            f"{_as(world, OPERATOR)}",
            shows=("accepted",),
        ),
        Command(
            say="Its citation, without its text, goes beside the other evidence.",
            line=f"sluicegate finding cite {found} --output {_path(cited)}{_as(world, OPERATOR)}",
            shows=("sha256",),
        ),
    )


def _signatures(world: ReleaseWorld) -> tuple[Step, ...]:
    return (
        Command(
            say="Now the step can be proposed. The server goes on with s2 meanwhile.",
            line=f"{_advance(world)} --to s3",
            shows=("demo-m: partner -> public", "met     bias", "met     finding:example-lab", "proposed"),
        ),
        Command(say="One of the signers signs.", line=_sign(world, SIGNERS[0]), shows=("signed by release-lead",)),
        Command(
            say="One is not enough, and cannot sign twice.",
            line=f"{_sign(world, SIGNERS[0])}; {_advance(world)}",
            exit_code=1,
            shows=("another one must be somebody else's", "2 different signers must"),
        ),
        Command(say="The other one signs.", line=_sign(world, SIGNERS[1]), shows=("signed by safety-lead",)),
        Command(say="That opens it.", line=_advance(world), shows=("s3 is active in release.yaml",)),
    )


def _opened(world: ReleaseWorld) -> tuple[Step, ...]:
    until = f"until sluicegate check {MODEL}{_as(world, VISITOR)} > /dev/null; do sleep 0.2; done"
    return (
        Command(
            say="The server has it within a second or two. The same visitor asks the same again:",
            line=f"{until}; {_generate(world, VISITOR, '-n', '40', '--seed', '1')}",
        ),
        Command(
            say="The model's card tells everybody what was measured.",
            line=f"sluicegate models show {MODEL}{_as(world, VISITOR)}",
            shows=("occupations", "s2 -> s3"),
        ),
        Command(
            say="And the plan says what it rests on.",
            line=f"sluicegate release transitions{_as(world, OPERATOR)}",
            shows=("s2 -> s3", "2 valid"),
        ),
    )


def _back(world: ReleaseWorld) -> tuple[Step, ...]:
    found = _found(world, "high")
    stream = _generate(world, VISITOR, "-n", "1000", "--ignore-eos", "--candidates", "8")
    return (
        Command(
            say="The lab finds more, and this time it is serious. An operator agrees.",
            line=f"sluicegate finding new --model {MODEL} --kind misuse --severity high"
            f" --summary 'Writes letters that people take for real'{_as(world, LAB)}"
            f" && sluicegate finding review {found} --status accepted --justification 'It does.'{_as(world, OPERATOR)}",
            shows=("accepted",),
        ),
        Command(
            say="Nothing is closed by that. But the plan says so from now on, and an alert would tell.",
            line=f"sluicegate release status{_as(world, OPERATOR)}",
            exit_code=1,
            shows=("an accepted finding of high or critical severity stands against demo-m",),
        ),
        Rollback(
            say="The operator goes back to s2, alone and at once, while visitors' streams run.",
            stream=stream,
            visitors=6,
            line=f"sluicegate release rollback s2 --justification 'the finding of the lab'{_as(world, OPERATOR)}",
            model=MODEL,
        ),
        Command(
            say="The visitor is outside again.",
            line=f"sluicegate check {MODEL}{_as(world, VISITOR)}",
            exit_code=1,
            shows=("MODEL_NOT_RELEASED",),
        ),
        Command(
            say="The way back goes on record too. It opens nothing, so nobody signs.",
            line=f"{_advance(world)} --to s2",
            shows=("s2 is active in release.yaml; it opens nothing, so nobody signs",),
        ),
    )


def _report(world: ReleaseWorld) -> tuple[Step, ...]:
    output = world.directory / "report"
    began = datetime.now(UTC) - timedelta(hours=1)
    return (
        Command(
            say="A report of the day, from the audit log, as an organisation could publish it.",
            line=f'sluicegate report --from {began:%Y-%m-%dT%H:%M:%SZ} --until "$(date -u +%Y-%m-%dT%H:%M:%SZ)"'
            f" --audit {_path(world.base.audit)} --state {shlex.quote(world.base.state)}"
            f" --policy {_path(world.policy)} --output {_path(output)}",
        ),
        Command(
            say="It has the steps, what they rest on, what was found, and the way back.",
            line=f"cat {_path(output / 'report.md')}",
            shows=("closed: stage", "s2 → s3", "bias of demo", "a finding on demo", "occupations"),
        ),
    )


def _generate(world: ReleaseWorld, caller: Caller, *options: str) -> str:
    return shlex.join(["sluicegate", "generate", MODEL, _PROMPT, *options]) + _as(world, caller)


def _advance(world: ReleaseWorld) -> str:
    return f"sluicegate release advance {_path(world.policy)} --trust {_path(world.trust)}"


def _sign(world: ReleaseWorld, signer: str) -> str:
    return (
        f"sluicegate release sign {_path(world.policy)} --key {_path(world.key(signer))} --signer {signer}"
        f" --trust {_path(world.trust)} --yes"
    )


def _found(world: ReleaseWorld, severity: str) -> str:
    """The id of the lab's latest finding of this severity, in the shell's words."""
    listed = f"sluicegate finding list --model {MODEL}{_as(world, OPERATOR)}"
    return f"\"$({listed} | grep ' {severity} ' | head -1 | cut -d' ' -f1)\""


def _as(world: ReleaseWorld, caller: Caller) -> str:
    return f" --token-file {_path(world.base.token(caller))}"


def _path(path: Path) -> str:
    return shlex.quote(str(path))
