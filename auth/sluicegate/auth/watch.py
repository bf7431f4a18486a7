"""Hot reload: the policy directory is looked at every second, and a good change takes effect whole.

A bad change keeps the revision in force and is reported once. Files are read until two readings agree, so
that neither a half-written file nor the moment of a Kubernetes ConfigMap swap is ever taken for a policy.

Where signatures are checked, a change that opens a model wider must bring a signature that this process has not
yet seen: putting an older, wider revision back is an opening too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate.auth.errors import PolicyError, Problem
from sluicegate.auth.loading import EVIDENCE_DIRECTORY, RELEASE_FILE, parse_policy, read_evidence, read_policy_files
from sluicegate.auth.policy import Policy
from sluicegate.auth.signatures import TrustRoot, opens_without_a_new_signature, transition_payloads
from sluicegate.evidence import EvidenceDirectory, EvidenceSet

POLL_SECONDS = 1.0
SETTLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Reading:
    """What stood in the directory."""

    contents: Mapping[str, bytes]
    evidence: EvidenceSet


class PolicyWatch:
    """The policy in force and its successors. Event loop only; files are read in a thread.

    Made with the first revision; raises PolicyError if there is none to start with.
    `on_change` gets each new revision, and the same one again with other evidence, after `current` has become it;
    `on_failure` gets the problems of a bad change, once. Both are called on the event loop.
    """

    def __init__(
        self,
        directory: Path,
        trust: TrustRoot | None,
        *,
        on_change: Callable[[Policy], None],
        on_failure: Callable[[Sequence[Problem]], None],
        interval_seconds: float = POLL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._directory = directory
        self._trust = trust
        self._on_change = on_change
        self._on_failure = on_failure
        self._interval_seconds = interval_seconds
        self._sleep = sleep
        self._evidence = EvidenceDirectory(directory / EVIDENCE_DIRECTORY)
        first = self._read_files()
        self._seen: _Reading | tuple[Problem, ...] = first
        self._current = self._parse(first)
        self._recorded = self._chain(self._current)
        self._problems: tuple[Problem, ...] = ()

    @property
    def current(self) -> Policy:
        """The revision in force."""
        return self._current

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files as they are now; empty if they are the revision in force."""
        return self._problems

    def widening_problem(self, policy: Policy) -> Problem | None:
        """Why a policy whose signatures hold is not taken over all the same; None: nothing is against it."""
        if self._trust is None or not opens_without_a_new_signature(
            self._current.stage, self._recorded, policy.plan, self._trust.deployment
        ):
            return None
        text = "opens wider than the revision in force; add a signed transition below those recorded so far"
        return Problem(RELEASE_FILE, "active", text)

    async def check(self) -> None:
        """Look once; take over a good change, report a bad one."""
        reading = await asyncio.to_thread(self._read)
        if reading == self._seen:
            return
        await self._sleep(SETTLE_SECONDS)
        if await asyncio.to_thread(self._read) != reading:
            return
        self._seen = reading
        if isinstance(reading, tuple):
            self._fail(reading)
            return
        try:
            policy = await asyncio.to_thread(self._parse, reading)
            if (problem := self.widening_problem(policy)) is not None:
                raise PolicyError([problem])
        except PolicyError as error:
            self._fail(error.problems)
            return
        self._problems = ()
        if (policy.revision, policy.evidence) != (self._current.revision, self._current.evidence):
            self._current = policy
            if len(chain := self._chain(policy)) > len(self._recorded):
                self._recorded = chain
            self._on_change(policy)

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            await self._sleep(self._interval_seconds)
            await self.check()

    def _chain(self, policy: Policy) -> list[bytes]:
        return transition_payloads(self._trust.deployment, policy.plan.transitions) if self._trust else []

    def _read(self) -> _Reading | tuple[Problem, ...]:
        try:
            return self._read_files()
        except PolicyError as error:
            return error.problems

    def _read_files(self) -> _Reading:
        return _Reading(read_policy_files(self._directory), read_evidence(self._directory, self._evidence))

    def _parse(self, reading: _Reading) -> Policy:
        return parse_policy(self._directory, reading.contents, self._trust, reading.evidence)

    def _fail(self, problems: tuple[Problem, ...]) -> None:
        self._problems = problems
        self._on_failure(problems)
