"""`sluicegate release`: the release plan as a server has it, its history, and what another policy would change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.client import extensions
from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.exits import Exit, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.simulations import is_bad_policy, show, show_bad
from sluicegate.client.commands.terminal import safe, write, write_json, write_table
from sluicegate.client.commands.withdraw import Closing, close
from sluicegate.client.errors import ConfigurationError, InvalidRequest
from sluicegate.client.releases import (
    PolicySimulation,
    ReleasePlan,
    RequirementState,
    StageRequirement,
    StageTransition,
)
from sluicegate.client.withdrawals import StageTarget

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_MAX_FILE_BYTES = 256 << 10
"""The API's bound (release_service.proto)."""


@with_option_groups
@reported()
def plan(*, as_json: JsonFlag = False, connection: Connection) -> None:
    """Show the stages, what each opens and asks for, and what is in force now."""
    found = asyncio.run(_plan(connection))
    if as_json:
        write_json(found)
    else:
        _show_plan(found)


@with_option_groups
@reported()
def status(*, as_json: JsonFlag = False, connection: Connection) -> None:
    """Show how each stage's requirements stand, and which of those in force do not hold any more.

    Exit code 0: all that the stage in force rests on holds; 1: something does not, or a severe finding stands.
    """
    found = asyncio.run(_plan(connection))
    resting = _resting(found)
    failed = [each for each in resting if each.state in (RequirementState.FAILED, RequirementState.MISSING)]
    if as_json:
        write_json(found)
    else:
        _show_status(found)
    raise typer.Exit(Exit.REFUSED if failed or found.severely_reported_models else Exit.OK)


@with_option_groups
@reported()
def rollback(
    stage: Annotated[str, typer.Argument(metavar="EARLIER", help="The stage to go back to, as the policy has it.")],
    *,
    closing: Closing,
    connection: Connection,
) -> None:
    """Go back to an earlier stage, at once: what it does not open ends, running streams too. One operator suffices.

    It holds until it is lifted. To have it in the policy as well: sluicegate release advance DIR --to EARLIER
    """
    close(StageTarget(stage), closing, connection)
    if not closing.dry_run and not closing.as_json:
        write(f"to have it in the policy as well: sluicegate release advance DIR --trust FILE --to {stage}\n")


@with_option_groups
@reported()
def transitions(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    connection: Connection,
) -> None:
    """Show the recorded steps from stage to stage, the oldest first."""
    found = asyncio.run(_transitions(connection))
    if as_json:
        write_json(found)
    elif found:
        write_table(("", "step", "at", "by", "signatures", "evidence"), (_row(each) for each in found))
    else:
        write("no transition is recorded\n")


@with_option_groups
@reported()
def simulate(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The policy as it would be: release.yaml, agreements/.")
    ],
    *,
    as_json: JsonFlag = False,
    connection: Connection,
) -> None:
    """Say who would gain and who would lose access if this policy took the place of the server's. Nothing is changed.

    Exit code 0: no difference; 1: there are some; 2: it is no good policy; else as for every command.
    """
    files = policy_files(directory)
    try:
        found = asyncio.run(_simulate(connection, files))
    except InvalidRequest as error:
        if not is_bad_policy(error):
            raise
        show_bad(error, tuple(files))
        raise typer.Exit(Exit.USAGE) from None
    if as_json:
        write_json(found)
    else:
        show(found)
    raise typer.Exit(Exit.OK if found.is_unchanged else Exit.REFUSED)


def build_release() -> typer.Typer:
    """The commands about the release plan."""
    app = typer.Typer(no_args_is_help=True)
    app.callback()(_release)
    for command in (status, plan, transitions, simulate, rollback):
        app.command()(command)
    extensions.register(app, within="release")
    return app


def _release() -> None:
    """The release plan as a server has it, what another policy would change, and the next stage.

    `status`, `plan`, `transitions` and `simulate` ask a server, with a token that has the scope release:read;
    `rollback` needs release:withdraw. `advance` and `sign` change the files of a policy.
    """


def policy_files(directory: Path) -> dict[str, bytes]:
    """The files of a policy directory by name. Raises ConfigurationError."""
    agreements = directory / "agreements"
    try:
        paths = sorted(path for path in agreements.iterdir() if path.suffix in (".yaml", ".yml"))
    except FileNotFoundError:
        paths = []
    except OSError as fault:
        raise ConfigurationError(f"{agreements} cannot be read: {fault.strerror}") from fault
    return {path.relative_to(directory).as_posix(): _content(path) for path in (directory / "release.yaml", *paths)}


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault.strerror}") from fault
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return content


async def _plan(connection: Connection) -> ReleasePlan:
    async with connection.client() as client:
        return await client.get_release_plan()


async def _transitions(connection: Connection) -> tuple[StageTransition, ...]:
    async with connection.client() as client:
        return await client.list_stage_transitions()


async def _simulate(connection: Connection, files: dict[str, bytes]) -> PolicySimulation:
    async with connection.client() as client:
        return await client.simulate_policy(files)


def _show_plan(found: ReleasePlan) -> None:
    in_force = found.stage_in_force
    models = dict.fromkeys(model for stage in (*found.stages, in_force) for model in stage.open)
    columns = ("model", *(f"{stage.id} ({stage.name})" for stage in found.stages), "now")
    write_table(columns, (_opening(found, model) for model in models))
    for stage in found.stages:
        if stage.requires:
            write(f"{stage.id} requires {', '.join(map(_requirement, stage.requires))}\n")
    gone_back = "" if in_force.id == found.active_stage else f"; operators went back to {in_force.id}"
    write(f"active: {found.active_stage}{gone_back}\n")
    write(f"policy {found.policy_revision[:16]}, signatures are {'' if found.signatures_checked else 'not '}checked\n")


def _resting(found: ReleasePlan) -> Sequence[StageRequirement]:
    """What the stage in force and those before it in the plan require."""
    ids = [stage.id for stage in found.stages]
    in_force = found.stage_in_force.id
    until = ids.index(in_force) + 1 if in_force in ids else 0
    return [each for stage in found.stages[:until] for each in stage.requires]


def _show_status(found: ReleasePlan) -> None:
    in_force = found.stage_in_force
    for stage in found.stages:
        mark = " (in force)" if stage.id == in_force.id else ""
        write(f"{stage.id} ({stage.name}){mark}\n")
        for each in stage.requires:
            state = each.state.value.lower() if each.state is not RequirementState.UNSPECIFIED else "not known"
            evidence = f", evidence {each.evidence_sha256[:16]}" if each.evidence_sha256 else ""
            write(f"  {state:10}{_requirement(each)}{evidence}\n")
            if each.explanation:
                write(f"            {safe(each.explanation)}\n")
        if not stage.requires:
            write("  requires nothing\n")
    for model in found.severely_reported_models:
        write(f"an accepted finding of high or critical severity stands against {model}\n")
    if found.active_stage != in_force.id:
        write(f"operators went back from {found.active_stage} to {in_force.id}\n")


def _opening(found: ReleasePlan, model: str) -> Sequence[str]:
    stages = (*found.stages, found.stage_in_force)
    cells = [stage.open[model].value.lower() if model in stage.open else "-" for stage in stages]
    if model in found.withdrawn_models:
        cells[-1] = "withdrawn"
    return (model, *cells)


def _requirement(each: StageRequirement) -> str:
    what = f"gate {each.gate}" if each.gate is not None else f"a finding by {each.finding}"
    return f"{what} for {each.model}"


def _row(each: StageTransition) -> Sequence[str]:
    if each.valid_signatures is None:
        signatures = "not checked"
    elif each.needs_signatures or each.valid_signatures:
        signatures = f"{each.valid_signatures} valid"
    else:
        signatures = "none needed"
    return (
        str(each.sequence),
        f"{each.from_stage} -> {each.to_stage}",
        f"{each.time:%Y-%m-%d %H:%M:%S} UTC" if each.time is not None else "",
        ", ".join(each.authors),
        signatures,
        " ".join(digest[:16] for digest in each.evidence_sha256),
    )
