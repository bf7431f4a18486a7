"""What is done to text on its way out."""

from sluicegate.server.guard.redaction import Redaction
from sluicegate.server.guard.stops import StopSequences
from sluicegate.server.guard.text import TextStream
from sluicegate.server.guard.utf8 import Utf8Stream

__all__ = ["Redaction", "StopSequences", "TextStream", "Utf8Stream"]
