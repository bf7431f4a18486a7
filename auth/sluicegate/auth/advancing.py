"""Opening the next stage, in the files of a policy: what is missing, what to sign, and the step itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sluicegate.auth.documents import Document, parse_document
from sluicegate.auth.editing import rewritten
from sluicegate.auth.errors import SigningError
from sluicegate.auth.loading import RELEASE_FILE, parse_policy, read_evidence, read_policy_files
from sluicegate.auth.pending import PENDING_FILE, PendingTransition, read_pending, write_pending
from sluicegate.auth.policy import Policy
from sluicegate.auth.release import Stage
from sluicegate.auth.replacing import replace_file
from sluicegate.auth.requirements import Judgement, judge, stage_requirements
from sluicegate.auth.signatures import TrustRoot, plan_digest


@dataclass(frozen=True, slots=True)
class Step:
    """From where the plan stands to a stage."""

    before: Stage
    after: Stage
    judgements: tuple[Judgement, ...]
    """What the step asks for, by the newest evidence there is."""

    @property
    def must_be_signed(self) -> bool:
        """Whether it opens wider, or is to say that the plan changed under a stage."""
        return self.before.id == self.after.id or self.after.opens_wider_than(self.before)

    @property
    def unmet(self) -> tuple[Judgement, ...]:
        return tuple(each for each in self.judgements if not each.is_met)

    @property
    def evidence_sha256(self) -> tuple[str, ...]:
        """Of the files that it rests on, each once."""
        return tuple(dict.fromkeys(each.evidence.sha256 for each in self.judgements if each.evidence is not None))


class PolicyFiles:
    """A policy directory as it was read, by whoever changes its release plan. Raises PolicyError if it is not good.

    Whether its signatures hold shows when a step is taken: a plan that was changed holds again with the step only.
    """

    def __init__(self, directory: Path, trust: TrustRoot) -> None:
        self._directory = directory
        self._trust = trust
        self._contents = read_policy_files(directory)
        self.policy: Policy = parse_policy(directory, self._contents, None, read_evidence(directory))
        self._release = parse_document(self._contents[RELEASE_FILE])
        self.plan_sha256 = plan_digest(self._release)

    @property
    def reached(self) -> Stage:
        """The stage that the transitions lead to."""
        plan = self.policy.plan
        return plan.stages_by_id[plan.transitions[-1].to if plan.transitions else plan.stages[0].id]

    def step(self, to: str, now: datetime) -> Step:
        """The step to a stage, as things are now. Raises SigningError for one that there is not to take."""
        plan = self.policy.plan
        stages = plan.stages_by_id
        if to not in stages:
            raise SigningError(f"no such stage as {to}; the plan has {', '.join(stages)}")
        before, after = self.reached, stages[to]
        if plan.active not in (before.id, to):
            raise SigningError(
                f"the plan went back to {plan.active} without a transition that says so; first record it:"
                f" release advance --to {plan.active}"
            )
        if before.id == to and not self._is_changed:
            raise SigningError(f"{to} is where the plan stands, with nothing in it that is yet to be signed")
        since = before.id if before.id != to else self._opened_from
        asked = stage_requirements(plan, to, since=since) if after.opens_wider_than(before) or before is after else ()
        return Step(before, after, tuple(judge(plan, each, self.policy.evidence, now) for each in asked))

    def propose(self, step: Step, papers: Sequence[str]) -> PendingTransition:
        """Write the proposal of a step whose requirements are met, for signers to sign; `papers` are cited as well.

        Raises EditingError if there is one.
        """
        cited = tuple(dict.fromkeys((*step.evidence_sha256, *papers)))
        pending = PendingTransition.model_validate(
            {
                "from": step.before.id,
                "to": step.after.id,
                "plan_sha256": self.plan_sha256,
                "evidence_sha256": list(cited),
                "signatures": {},
            }
        )
        write_pending(self._directory, pending, None)
        return pending

    def pending(self) -> PendingTransition | None:
        """The proposal, if it is still about this plan. Raises SigningError for one that is not."""
        found = read_pending(self._directory)
        if found is None:
            return None
        pending = found[0]
        if (pending.from_, pending.plan_sha256) != (self.reached.id, self.plan_sha256):
            raise SigningError(
                f"{PENDING_FILE} is about another plan than {RELEASE_FILE} is now; drop it with"
                " release advance --abandon, and propose anew"
            )
        return pending

    def add_signature(self, signer: str, value: str) -> None:
        """Put a signature into the proposal. Raises SigningError, EditingError."""
        found = read_pending(self._directory)
        if found is None:
            raise SigningError("there is no proposal any more")
        pending, raw = found
        signed = pending.model_copy(update={"signatures": {**pending.signatures, signer: value}})
        write_pending(self._directory, signed, raw)

    def take(self, to: str, entry: Document) -> None:
        """Add a transition and make its stage the active one, if the policy is good with it.

        Raises PolicyError with what is wrong, EditingError if the file cannot be changed; nothing is changed then.
        """
        release = {**self._release, "active": to, "transitions": [*self._transitions, entry]}
        before = self._contents[RELEASE_FILE]
        after = rewritten(before, release)
        contents: Mapping[str, bytes] = {**self._contents, RELEASE_FILE: after}
        parse_policy(self._directory, contents, self._trust, self.policy.evidence)
        replace_file(self._directory / RELEASE_FILE, before, after)

    def abandon(self) -> bool:
        """Drop the proposal; False: there was none."""
        path = self._directory / PENDING_FILE
        if not path.exists():
            return False
        path.unlink()
        return True

    @property
    def _transitions(self) -> list[object]:
        found = self._release.get("transitions", [])
        assert isinstance(found, list)
        return found

    @property
    def _opened_from(self) -> str | None:
        """The stage before the one that is reached."""
        return next((each.from_ for each in reversed(self.policy.plan.transitions) if each.from_ != each.to), None)

    @property
    def _is_changed(self) -> bool:
        """Whether the plan is another one than its last signers signed. A signed plan of the first stage is none."""
        transitions = self.policy.plan.transitions
        return bool(transitions) and transitions[-1].plan_sha256 != self.plan_sha256


def closing_entry(step: Step, at: datetime) -> Document:
    """The transition that records a narrowing, which nobody signs."""
    return {"from": step.before.id, "to": step.after.id, "at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
