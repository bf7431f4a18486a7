"""What a runner cannot run. Load errors are `engine.errors.ModelLoadError`.

StepError (engine/errors.py)
└── NonFiniteError     the model gave NaN or infinity
"""

from __future__ import annotations

from sluicegate.server.engine.errors import StepError


class NonFiniteError(StepError):
    """The model's output is NaN or infinite: damaged weights, or an overflow in the forward pass."""
