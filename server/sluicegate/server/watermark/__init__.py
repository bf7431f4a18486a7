"""SynthID-Text: a mark in the choice of tokens, which a holder of the key can recognise in the text alone.

No torch: the engine marks by it, and the front end detects by it.
"""

from sluicegate.server.watermark.contexts import Contexts
from sluicegate.server.watermark.detection import LEAST_TOKENS, Detector, Measurement, corrected
from sluicegate.server.watermark.errors import WatermarkKeyError
from sluicegate.server.watermark.keys import Keyring, WatermarkKey, create_key, read_keys
from sluicegate.server.watermark.scheme import Scheme, states_of
from sluicegate.server.watermark.tournament import MOST_CANDIDATES, play

__all__ = [
    "LEAST_TOKENS",
    "MOST_CANDIDATES",
    "Contexts",
    "Detector",
    "Keyring",
    "Measurement",
    "Scheme",
    "WatermarkKey",
    "WatermarkKeyError",
    "corrected",
    "create_key",
    "play",
    "read_keys",
    "states_of",
]
