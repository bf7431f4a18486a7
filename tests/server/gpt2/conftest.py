from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from threads, and lose much to a machine that is busy with something else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the test logs."""
    with capture_logs() as entries:
        yield entries
