"""What is recognised in generated text: personal data, flagged content, memorised passages.

Neither grpc, torch nor prometheus_client are known here, and nothing is kept of a text but what is needed to go on.
"""

from sluicegate.server.signals.errors import LexiconError, RecogniserUnavailable, SignalsError
from sluicegate.server.signals.lexicon import Lexicon, load_lexicon
from sluicegate.server.signals.memorisation import MemorisationScore
from sluicegate.server.signals.phrases import LexiconScanner
from sluicegate.server.signals.pii import PiiScanner, PiiType, Scanner, open_presidio

__all__ = [
    "Lexicon",
    "LexiconError",
    "LexiconScanner",
    "MemorisationScore",
    "PiiScanner",
    "PiiType",
    "RecogniserUnavailable",
    "Scanner",
    "SignalsError",
    "load_lexicon",
    "open_presidio",
]
