"""What is found out about where a text came from: plain frozen data, free of wire messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Verdict(StrEnum):
    """What was found in a text."""

    UNSPECIFIED = "UNSPECIFIED"
    """Something that this version of the client does not know."""
    WATERMARKED = "WATERMARKED"
    """Without a watermark, such a text comes by chance in `false_positive_rate` of the cases at most."""
    NOT_FOUND = "NOT_FOUND"
    """No watermark was found. It does not follow who or what wrote the text."""
    INSUFFICIENT_TEXT = "INSUFFICIENT_TEXT"
    """Under 50 tokens, or mostly repetition."""
    UNSUPPORTED = "UNSUPPORTED"
    """The server has no key of the model."""


@dataclass(frozen=True, slots=True)
class WatermarkCheck:
    """What one key says of the text."""

    model: str
    epoch: int | None
    """Of the key; None: the model has no key at the server, and so in the next."""
    watermark_id: str | None
    verdict: Verdict
    p_value: float | None
    """Corrected for the number of keys that were tried; None without a key."""
    scored_tokens: int


@dataclass(frozen=True, slots=True)
class Detection:
    """What all keys say of the text."""

    verdict: Verdict
    checks: tuple[WatermarkCheck, ...]
    """The smallest p-value first, models without a key last."""
    false_positive_rate: float
    """How often text without a watermark is called WATERMARKED, at most."""
