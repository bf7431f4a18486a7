"""What a runner cannot run. Load errors are `engine.errors.ModelLoadError`.

StepError (engine/errors.py)
└── NonFiniteError     the model gave NaN or infinity
"""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.server.engine.errors import StepError


class NonFiniteRows(Exception):
    """Rows of a batch whose logits are NaN or infinite: what a network tells its runner."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"rows {list(rows)} are not finite")
        self.rows = rows


class NonFiniteError(StepError):
    """The model's output is NaN or infinite: damaged weights, or an overflow in the forward pass."""
