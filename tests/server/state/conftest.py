"""State files in a directory of their own."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from state_replicas import FreshUrl


@pytest.fixture
def fresh_url(tmp_path: Path) -> FreshUrl:
    numbers = count()
    return lambda: f"sqlite:///{tmp_path}/state-{next(numbers)}.db"
