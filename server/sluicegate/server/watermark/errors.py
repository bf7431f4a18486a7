"""What can be wrong with watermark keys."""

from __future__ import annotations


class WatermarkKeyError(Exception):
    """A file of watermark keys cannot be used or made. The text says what to do, and holds nothing of any key."""
