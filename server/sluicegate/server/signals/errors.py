"""Errors of the recognisers.

SignalsError
├── LexiconError           a lexicon's file cannot be used; lists every problem
└── RecogniserUnavailable  a recogniser was asked for whose packages are not installed
"""

from __future__ import annotations

from collections.abc import Sequence


class SignalsError(Exception):
    """Root of the recognisers' errors."""


class LexiconError(SignalsError):
    """The lexicon's file cannot be used. Each problem names the file, the place in it, and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class RecogniserUnavailable(SignalsError):
    """The packages of an optional recogniser are missing; the text says what to install."""
