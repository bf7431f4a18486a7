"""How partners use the service, seen from their prompts, outputs and tokens: sketches that replicas add up.

Neither grpc, torch nor prometheus_client are known here. docs/signals.md says what each figure means and where it errs.
"""

from sluicegate.server.signals.sketches.errors import ExtractInvalid, SketchError
from sluicegate.server.signals.sketches.figures import Figures
from sluicegate.server.signals.sketches.fingerprints import SALT_BYTES
from sluicegate.server.signals.sketches.sketches import Sketches

__all__ = ["SALT_BYTES", "ExtractInvalid", "Figures", "SketchError", "Sketches"]
