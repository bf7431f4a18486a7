"""Personal data in generated text."""

from sluicegate.server.signals.pii.addresses import LONGEST_ENTITY
from sluicegate.server.signals.pii.entities import CONTEXT, Entity, encoded, end_of_run, first_open, next_entity
from sluicegate.server.signals.pii.presidio import PresidioScanner, open_presidio
from sluicegate.server.signals.pii.scanner import PiiScanner
from sluicegate.server.signals.pii.types import PiiType, Scanner

__all__ = [
    "CONTEXT",
    "LONGEST_ENTITY",
    "Entity",
    "PiiScanner",
    "PiiType",
    "PresidioScanner",
    "Scanner",
    "encoded",
    "end_of_run",
    "first_open",
    "next_entity",
    "open_presidio",
]
