"""A text's log-probability, or no measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sluicegate.client.errors import MeasurementRefused
from sluicegate.client.results import Token

_LEAST_OF_A_TOKEN = -700.0
"""Below, the exponential of the negative is no float any more; 10^-304 is nobody's probability."""


def log_probability(tokens: Sequence[Token], where: str) -> float:
    """Sum over the tokens, nats; at least one. Raises MeasurementRefused if there is none, or not a finite one of each.

    `where`: what is scored, for the error's text.
    """
    found = [token.log_probability for token in tokens]
    if not found or not all(each is not None and each >= _LEAST_OF_A_TOKEN and each <= 0 for each in found):
        raise MeasurementRefused(
            f"the server gave no finite log-probability for {where}: nothing can be said of a model that gives NaN or "
            "infinity; look at its weights and dtype"
        )
    return math.fsum(each for each in found if each is not None)
