"""The use case of asking beforehand: what would another policy change, and for whom.

A proposed policy is read, compared and forgotten; no file is opened and nothing is kept. All of it is work of up to
some seconds, done in a thread, for one caller at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from sluicegate.auth import Policy, PolicyError, Problem, Reason, TrustRoot
from sluicegate.auth.access_changes import AccessChanges, access_changes
from sluicegate.auth.comparing import Comparison, compare
from sluicegate.auth.errors import ComparisonError
from sluicegate.auth.loading import parse_draft
from sluicegate.auth.recorded import RecordedCall
from sluicegate.auth.simulation import Tally, replay
from sluicegate.server.errors import CallRefused, FieldViolation
from sluicegate.server.gate import Gate

MAX_TOTAL_BYTES = 256 << 10
MAX_REPLAYED_CALLS = 100_000
REPLAY_SECONDS = 2.0
CALLS_AT_ONCE, PAUSE_SECONDS = 50, 0.005
"""Calls decided between two pauses, in which calls that are served get their turn."""
MAX_ACCESS_CHANGES = 1_000
RETRY_SECONDS = 2.0

_MAX_PROBLEMS = 20
_MAX_PROBLEM_CHARACTERS = 240
_MAX_PROBLEM_BYTES = 4_000
"""Of all problems together: they travel in trailing metadata, of which many clients take no more than 8 KiB."""

log = structlog.get_logger()

Files = Sequence[tuple[str, bytes]]
"""Names under the policy directory, each with its content."""


class CallRecords(Protocol):
    """Where calls are on record."""

    def recent(self, clients: Collection[tuple[str, str]]) -> Iterator[RecordedCall | None]:
        """Calls that are on record, the latest first, or as many as can be had. Runs in a thread.

        `clients` are those that the policy in force names, as (issuer, name). A record that has a pseudonym for one of
        these gives its name; whoever is none of them is the public to it, and may stand under any name. None
        stands for a call whose record leaves out what decides it, as the name of a model that the policy did not have.
        """


@dataclass(frozen=True, slots=True)
class Replay:
    """What would have become of calls on record. `is_partial`: there are more of them."""

    tally: Tally
    undecidable: int
    """Calls whose records tell too little to decide them again."""
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a proposed policy would change."""

    loaded_revision: str
    revision: str
    comparison: Comparison
    """Of both policies as they are written, before withdrawals."""
    changes: AccessChanges
    """Withdrawals counted."""
    signatures_checked: bool
    signature_problems: tuple[Problem, ...]
    """What a reload would still refuse it for."""
    replay: Replay | None
    """None where no calls are on record."""


@dataclass(frozen=True, slots=True)
class _Proposed:
    """The policy, as far as the thread gets."""

    policy: Policy
    simulation: Simulation


class Simulating:
    """Compares a proposed policy with the one that is loaded. One for the process; event loop only.

    `trust`: who must sign; None where the settings check no signatures. `widening_problem` says why a signed policy
    would not be taken over all the same. `records`: None where calls are not on record.
    """

    def __init__(
        self,
        gate: Gate,
        trust: TrustRoot | None,
        widening_problem: Callable[[Policy], Problem | None],
        records: CallRecords | None = None,
    ) -> None:
        self._gate = gate
        self._trust = trust
        self._widening_problem = widening_problem
        self._records = records
        self._work: asyncio.Task[_Proposed] | None = None

    async def simulate(self, files: Files) -> Simulation:
        """What these files would change. Raises CallRefused for a bad policy, and while another is looked at.

        The thread of a caller who left goes on until its step is done, and no other begins before that.
        """
        contents = _contents(files)
        if self._work is not None:
            raise CallRefused(Reason.SERVER_OVERLOADED, retry_after_seconds=RETRY_SECONDS)
        abandoned = threading.Event()
        work = asyncio.to_thread(self._compare, contents, self._gate.policy, self._gate.now(), abandoned)
        task = self._work = asyncio.create_task(work)
        task.add_done_callback(self._forget)
        try:
            proposed = await asyncio.shield(task)
        except PolicyError as error:
            raise _bad_policy(error.problems, [name for name, _ in files]) from None
        except ComparisonError as error:
            raise _invalid("files", f"{error}; `sluicegate policy diff` compares term by term") from None
        finally:
            abandoned.set()
        simulation = proposed.simulation
        if self._trust is not None and not simulation.signature_problems:
            problem = self._widening_problem(proposed.policy)
            simulation = replace(simulation, signature_problems=(problem,) if problem is not None else ())
        log.info(
            "policy_simulated",
            revision=proposed.policy.shown_revision,
            differences=len(simulation.comparison.differences),
            replayed=simulation.replay.tally.totals.total() if simulation.replay is not None else 0,
        )
        return simulation

    def _compare(
        self, contents: Mapping[str, bytes], in_force: Policy, now: float, abandoned: threading.Event
    ) -> _Proposed:
        """In a thread. Raises PolicyError, ComparisonError."""
        draft = parse_draft(contents)
        problems = draft.signature_problems(self._trust, in_force.evidence) if self._trust is not None else ()
        proposed = draft.policy(
            in_force.directory, in_force.evidence, is_signed=self._trust is not None and not problems
        )
        narrowed = replace(proposed, withdrawals=in_force.withdrawals)
        changes = access_changes(in_force, narrowed, now, most=MAX_ACCESS_CHANGES)
        simulation = Simulation(
            loaded_revision=in_force.revision,
            revision=proposed.revision,
            comparison=compare(replace(in_force, withdrawals=None), proposed),
            changes=changes,
            signatures_checked=self._trust is not None,
            signature_problems=problems,
            replay=_replayed(self._records, in_force, narrowed, abandoned) if self._records is not None else None,
        )
        return _Proposed(proposed, simulation)

    def _forget(self, work: asyncio.Task[_Proposed]) -> None:
        """Let go of the policy, and of an error that nobody waited for: asyncio would complain of that."""
        self._work = None
        if not work.cancelled():
            work.exception()


def _contents(files: Files) -> Mapping[str, bytes]:
    """The files by name. Raises CallRefused for a name that stands twice, and for too much."""
    contents: dict[str, bytes] = {}
    for index, (name, content) in enumerate(files):
        if name in contents:
            raise _invalid(f"files[{index}].name", "stands here once")
        contents[name] = content
    if sum(map(len, contents.values())) > MAX_TOTAL_BYTES:
        raise _invalid("files", f"have at most {MAX_TOTAL_BYTES} bytes together")
    return contents


def _replayed(records: CallRecords, before: Policy, after: Policy, abandoned: threading.Event) -> Replay:
    """The replay, for as long as it may take: other threads want the interpreter too.

    Names are given back to clients of the policy in force only, lest who asks try out others.
    """
    named = {*before.internal_clients, *before.agreements_by_client}
    tally, undecidable, end = Tally(), 0, time.monotonic() + REPLAY_SECONDS
    for number, call in enumerate(records.recent(named)):
        if number == MAX_REPLAYED_CALLS or time.monotonic() > end or abandoned.is_set():
            return Replay(tally, undecidable, is_partial=True)
        if number % CALLS_AT_ONCE == 0:
            time.sleep(PAUSE_SECONDS)
        if call is None:
            undecidable += 1
        else:
            tally.add(replay(before, after, call))
    return Replay(tally, undecidable, is_partial=False)


def _bad_policy(problems: Sequence[Problem], names: Sequence[str]) -> CallRefused:
    """The refusal with as many of the problems as travel well; `problems` says how many there are."""
    violations: list[FieldViolation] = []
    bytes_left = _MAX_PROBLEM_BYTES
    for problem in problems[:_MAX_PROBLEMS]:
        text = _cut(str(problem), _MAX_PROBLEM_CHARACTERS)
        bytes_left -= len(text.encode())
        if violations and bytes_left < 0:
            break
        field = f"files[{names.index(problem.file)}].content" if problem.file in names else "files"
        violations.append(FieldViolation(field, text))
    return CallRefused(Reason.REQUEST_INVALID, {"problems": str(len(problems))}, violations=violations)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _invalid(field: str, rule: str) -> CallRefused:
    return CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(field, rule)])
