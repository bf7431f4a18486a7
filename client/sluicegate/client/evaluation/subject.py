"""The model that is measured: the same weights from the first answer to the last, or no evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluicegate.client.errors import MeasurementRefused
from sluicegate.client.results import Model, Started
from sluicegate.evidence.form import ServedUnder, Subject


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """A loaded model, as GetModel states it."""

    id: str
    weights_sha256: str
    dtype: str

    @classmethod
    def of(cls, model: Model) -> ModelUnderTest:
        """Raises MeasurementRefused for a model that is not loaded."""
        if not model.weights_sha256:
            raise MeasurementRefused(f"{model.id} is not loaded now; try again when `sluicegate models` says ready")
        return cls(model.id, model.weights_sha256, model.dtype)

    def require(self, started: Started) -> list[str]:
        """Stage and policy revision that the call ran under. Raises MeasurementRefused if it ran on other weights."""
        if started.weights_sha256 != self.weights_sha256:
            raise MeasurementRefused(
                f"the server answers with other weights of {self.id} than when the run began; move the journal away "
                "and measure all of it again"
            )
        return [started.stage, started.policy_revision]

    def subject(self, ran_under: Iterable[Sequence[str]]) -> Subject:
        """For the evidence; `ran_under`: stage and policy revision of each call."""
        distinct = sorted({(stage, revision) for stage, revision in ran_under})
        return Subject(
            model=self.id,
            weights_sha256=self.weights_sha256,
            dtype=self.dtype,
            served_under=tuple(ServedUnder(stage=stage, policy_revision=revision) for stage, revision in distinct),
        )
