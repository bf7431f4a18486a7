"""Errors of the engine and of its clients.

EngineError
├── ModelLoadError     a model cannot be loaded; the text says what to do about it
├── EngineUnavailable  no engine takes requests for this model now; nothing was started
├── EngineLost         the engine died with this request under way; what it had sent is valid
├── EngineFailed       the engine loop cannot go on; its process exits and is restarted
├── StepError          a step cannot be run because of some of its sequences; the others can go on
├── StepOutOfMemory    a step needs more memory than there is; a smaller one may do
└── FrontEndGone       a front end no longer reads; its requests are ended
"""

from __future__ import annotations

from collections.abc import Iterable


class EngineError(Exception):
    """Root of the engine's errors."""


class ModelLoadError(EngineError):
    """A model cannot be loaded. The text reaches the operator: it says which model and what to do."""


class EngineUnavailable(EngineError):
    """No engine takes requests for this model now."""


class EngineLost(EngineError):
    """The engine died with this request under way."""


class EngineFailed(EngineError):
    """The engine loop cannot go on."""


class StepError(EngineError):
    """A step cannot be run because of the sequences in `slots`. Nothing was drawn and no state has changed.

    Raised by a Runner; the engine ends these sequences as FAILED and goes on with the others.
    """

    def __init__(self, message: str, slots: Iterable[int]) -> None:
        super().__init__(message)
        self.slots = frozenset(slots)


class StepOutOfMemory(EngineError):
    """A step needs more memory than there is. Nothing was drawn and no state has changed.

    Raised by a Runner; the engine goes on with smaller steps.
    """


class FrontEndGone(EngineError):
    """A message has no one to go to."""
