"""Whose step is next among the models of one device: shares of its time by weight.

Start-time fair queueing (Goyal, Vin and Cheng 1997, section II) in seconds, over steps. A model's steps may last ten
times as long as another's; taking turns step by step, the small model's streams would run at the large one's pace.
"""

from __future__ import annotations

from collections.abc import Collection


class Turns:
    """Models' accounts of device time, by name. Engine thread only.

    Between two models that have work all along, the difference of seconds by weight is never more than the sum of the
    longest step by weight of each (ibid., theorem 1). Equal accounts take turns.
    """

    def __init__(self) -> None:
        self._now = 0.0  # virtual: seconds by weight, when the step in progress was due
        self._due: dict[str, float] = {}  # when each model's next step is; the one that has not run for longest first

    def next(self, busy: Collection[str]) -> str:
        """Whose turn it is among those that have work, of which there is one at least.

        One that had none starts now: it saves up nothing, and owes nothing for what others left unused.
        """
        for model in busy:
            self._due[model] = max(self._due.get(model, 0.0), self._now)
        chosen = min((model for model in self._due if model in busy), key=self._due.__getitem__)
        self._now = self._due[chosen]
        return chosen

    def charge(self, model: str, seconds: float, weight: float) -> None:
        """A step of a model took so long."""
        self._due[model] = self._due.pop(model) + seconds / weight

    def postpone(self, model: str) -> None:
        """Put a model behind all others, once."""
        del self._due[model]
        self._due[model] = max(self._due.values(), default=self._now)
