"""Errors of the engine and of its clients.

EngineError
├── ModelLoadError     a model cannot be loaded; the text says what to do about it
├── EngineUnavailable  no engine takes requests for this model now; nothing was started, try later or elsewhere
├── EngineLost         the engine died with this request under way; what it had sent is valid
├── EngineFailed       the engine loop cannot go on; its process exits and is restarted
└── FrontEndGone       a front end no longer reads; its requests are ended
"""

from __future__ import annotations


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


class FrontEndGone(EngineError):
    """A message has no one to go to."""
