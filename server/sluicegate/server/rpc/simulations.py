"""From what a simulation found to the API's messages, each list and text cut to a bound."""

from __future__ import annotations

from sluicegate.auth import Problem
from sluicegate.auth.access_changes import AccessChange, Subject
from sluicegate.auth.differences import Difference
from sluicegate.auth.simulation import Group, Shift
from sluicegate.server.rpc.responses import reason
from sluicegate.server.simulating import Replay, Simulation
from sluicegate.v1 import release_service_pb2 as pb

MAX_DIFFERENCES = 500
MAX_GROUPS = 500
MAX_PROBLEMS = 100
MAX_CHARACTERS = 300


def simulation(found: Simulation) -> pb.SimulatePolicyResponse:
    differences = found.comparison.differences
    return pb.SimulatePolicyResponse(
        policy_revision=found.loaded_revision,
        proposed_revision=found.revision,
        opens_wider=found.comparison.opens_wider,
        differences=map(_difference, differences[:MAX_DIFFERENCES]),
        differences_left_out=max(0, len(differences) - MAX_DIFFERENCES),
        access_changes=map(_access_change, found.changes.shown),
        access_changes_left_out=found.changes.left_out,
        signatures_checked=found.signatures_checked,
        signature_problems=map(_problem, found.signature_problems[:MAX_PROBLEMS]),
        replay_state=_replay_state(found.replay),
        replay=_replay(found.replay) if found.replay is not None else None,
    )


def _difference(each: Difference) -> pb.PolicyDifference:
    return pb.PolicyDifference(
        subject=_cut(each.subject),
        field=_cut(each.field),
        before=_cut(each.before) if each.before is not None else None,
        after=_cut(each.after) if each.after is not None else None,
        effect=pb.DifferenceEffect.Value(f"DIFFERENCE_EFFECT_{each.effect.name}"),
        signing=pb.DifferenceSigning.Value(f"DIFFERENCE_SIGNING_{each.signing.name}"),
    )


def _access_change(each: AccessChange) -> pb.AccessChange:
    return pb.AccessChange(
        shift=_shift(each.shift),
        caller=_caller(each.subject),
        issuer=each.subject.issuer,
        client_id=each.subject.client,
        model=each.model,
        action=each.action,
        partner=each.partner,
        agreement=each.agreement or "",
        reason=reason(each.reason),
    )


def _caller(subject: Subject) -> pb.CallerKind.ValueType:
    if subject.issuer:
        return pb.CALLER_KIND_CLIENT
    return pb.CALLER_KIND_ANONYMOUS if subject.anonymous else pb.CALLER_KIND_PUBLIC


def _problem(each: Problem) -> pb.PolicyProblem:
    return pb.PolicyProblem(file=each.file, field=_cut(each.field), text=_cut(each.text))


def _replay_state(replay: Replay | None) -> pb.ReplayState.ValueType:
    if replay is None:
        return pb.REPLAY_STATE_NO_RECORDS
    return pb.REPLAY_STATE_PARTIAL if replay.is_partial else pb.REPLAY_STATE_COMPLETE


def _replay(replay: Replay) -> pb.Replay:
    totals, groups = replay.tally.totals, replay.tally.groups
    return pb.Replay(
        calls=totals.total(),
        gained=totals[Shift.GAINED],
        lost=totals[Shift.LOST],
        changed=totals[Shift.CHANGED],
        served=totals[Shift.SERVED],
        refused=totals[Shift.REFUSED],
        groups=[_group(group, calls) for group, calls in groups.most_common(MAX_GROUPS)],
        groups_left_out=max(0, len(groups) - MAX_GROUPS),
        undecidable=replay.undecidable,
    )


def _group(group: Group, calls: int) -> pb.ReplayGroup:
    return pb.ReplayGroup(
        shift=_shift(group.shift),
        partner=group.partner,
        client=_cut(group.client),
        model=group.model,
        action=group.action,
        reason=group.reason,
        calls=calls,
    )


def _shift(shift: Shift) -> pb.AccessShift.ValueType:
    return pb.AccessShift.Value(f"ACCESS_SHIFT_{shift.name}")


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
