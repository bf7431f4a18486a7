"""Kinds of personal data, and what looks for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class PiiType(StrEnum):
    """A kind of personal data; the value is its metric label."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    IP_ADDRESS = "ip_address"


class Scanner(Protocol):
    """Looks for personal data in one candidate's text. One task uses it; it keeps a bounded part of the text."""

    def feed(self, text: str) -> list[PiiType]:
        """The next piece. What became certain with it: one item for each occurrence, none twice."""

    def end(self) -> list[PiiType]:
        """The text is over, finished or cut off. What was still open. Nothing may be fed afterwards."""
