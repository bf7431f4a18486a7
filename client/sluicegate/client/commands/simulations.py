"""What another policy would change, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sluicegate.client.commands.terminal import note, safe, write, write_table
from sluicegate.client.errors import InvalidRequest
from sluicegate.client.releases import (
    AccessChange,
    CallerKind,
    DifferenceEffect,
    DifferenceSigning,
    PolicyDifference,
    PolicySimulation,
    Replay,
    ReplayState,
)

_SHOWN_GROUPS = 50
_OF_A_NAME = re.compile(r"files\[([0-9]{1,4})\]\.name")
_KEPT = "the server would keep the policy that it has"
_SIGNATURES: Mapping[DifferenceSigning, str] = MappingProxyType(
    {
        DifferenceSigning.TRANSITION: "a transition signed by as many signers as the server's settings say",
        DifferenceSigning.ONE: "one signature over each agreement and internal client that needs it",
    }
)


def show(found: PolicySimulation) -> None:
    """Write the differences, then who gains and who loses, then what is still against the policy."""
    _show_differences(found)
    _show_changes(found)
    _show_replay(found)
    for problem in found.signature_problems:
        place = f"{problem.file}: {problem.field}" if problem.field else problem.file
        write(f"Not to be taken over yet: {_line(f'{place}: {problem.text}')}\n")


def is_bad_policy(error: InvalidRequest) -> bool:
    """Whether it is the files that are at fault."""
    return any(each.field.startswith("files") for each in error.field_violations)


def show_bad(error: InvalidRequest, names: Sequence[str]) -> None:
    """Say what is wrong with the policy of these files, on stderr."""
    for violation in error.field_violations:
        of_a_name = _OF_A_NAME.fullmatch(violation.field)
        if of_a_name is not None and int(of_a_name[1]) < len(names):
            note(_line(f"{names[int(of_a_name[1])]}: its name: {violation.description}"))
        else:
            note(_line(violation.description))
    told, total = len(error.field_violations), error.metadata.get("problems", "")
    note(f"{told} of {safe(total)} problem(s); {_KEPT}" if total else _KEPT)


def _show_differences(found: PolicySimulation) -> None:
    for effect in DifferenceEffect:
        for each in found.differences:
            if each.effect is effect:
                place = f"{each.subject}: {each.field}" if each.field else each.subject
                write(f"{effect.value.lower():8} {_line(f'{place}: {_step(each)}')}\n")
    _more(found.differences_left_out, "differences")
    if not found.differences:
        write("No difference.\n")
        return
    write("Opens wider.\n" if found.opens_wider else "Opens nothing.\n")
    needed = {each.signing for each in found.differences}
    for signing, text in _SIGNATURES.items():
        if signing in needed and found.signatures_checked:
            write(f"Needs {text}.\n")


def _show_changes(found: PolicySimulation) -> None:
    if found.access_changes:
        write("\n")
        rows = (
            (each.shift.value.lower(), _caller(each), each.action, each.model, _served_as(each), each.reason or "")
            for each in found.access_changes
        )
        write_table(("", "caller", "action", "model", "as", "refused for"), rows)
        _more(found.access_changes_left_out, "gains and losses")
    elif found.differences:
        write("Nobody gains or loses a model.\n")


def _show_replay(found: PolicySimulation) -> None:
    replay = found.replay
    if replay is None or found.replay_state is ReplayState.NO_RECORDS:
        if found.differences:
            write("No calls are on record: the policies alone were compared.\n")
        return
    part = "of the calls on record: " if found.replay_state is ReplayState.PARTIAL else "calls on record: "
    totals = ", ".join(
        f"{getattr(replay, name):,} {name}" for name in ("gained", "lost", "changed", "served", "refused")
    )
    write(f"\n{replay.calls:,} {part}{totals}\n")
    if replay.undecidable:
        write(f"and {replay.undecidable:,} whose records tell too little to decide them again\n")
    _show_groups(replay)


def _show_groups(replay: Replay) -> None:
    if not replay.groups:
        return
    shown = replay.groups[:_SHOWN_GROUPS]
    rows = (
        (
            f"{each.calls:,}",
            each.shift.value.lower(),
            each.partner,
            _line(each.client) or "(no token)",
            each.action,
            each.model,
            each.reason,
        )
        for each in shown
    )
    write_table(("calls", "", "as", "client", "action", "model", "reason or terms"), rows)
    _more(len(replay.groups) - len(shown) + replay.groups_left_out, "smaller groups")


def _more(left_out: int, what: str) -> None:
    if left_out:
        write(f"and {left_out:,} more {what}\n")


def _caller(change: AccessChange) -> str:
    match change.caller:
        case CallerKind.CLIENT:
            return _line(f"{change.client_id} of {change.issuer}")
        case CallerKind.PUBLIC:
            return "everybody else with a token"
        case CallerKind.ANONYMOUS:
            return "callers without a token"
        case CallerKind.UNSPECIFIED:
            return "callers that only newer clients know"


def _served_as(change: AccessChange) -> str:
    return f"{change.partner} ({change.agreement})" if change.agreement else change.partner


def _step(difference: PolicyDifference) -> str:
    if difference.before is None:
        return f"+ {difference.after}"
    if difference.after is None:
        return f"- {difference.before}"
    return f"{difference.before} -> {difference.after}"


def _line(text: str) -> str:
    """One line of it, that cannot steer the terminal."""
    return " ".join(safe(text).splitlines())
