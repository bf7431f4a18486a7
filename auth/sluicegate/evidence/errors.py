"""What can be wrong with an evidence file."""

from __future__ import annotations


class EvidenceError(Exception):
    """A file is no evidence that counts; the text says why, and never quotes the file."""
