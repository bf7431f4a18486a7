"""Personal data in generated text."""

from sluicegate.server.signals.pii.presidio import PresidioScanner, open_presidio
from sluicegate.server.signals.pii.scanner import PiiScanner
from sluicegate.server.signals.pii.types import PiiType, Scanner

__all__ = ["PiiScanner", "PiiType", "PresidioScanner", "Scanner", "open_presidio"]
