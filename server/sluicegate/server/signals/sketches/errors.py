"""Errors of the sketches.

SketchError
└── ExtractInvalid   bytes that are no extract of this release: they are left out, and all else goes on
"""

from __future__ import annotations


class SketchError(Exception):
    """Root of the sketches' errors."""


class ExtractInvalid(SketchError):
    """What another replica is said to have seen cannot be read; the text names the flaw and quotes nothing."""
