from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness import SMALL, Server, demo_plan, open_agreement, serving
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the test logs."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server of the test's own, with one public model."""
    async with serving(tmp_path) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for a module whose tests leave no trace in it; they run in the module's event loop."""
    models = {SMALL: {"device": "cpu", "slots": 8}}
    directory, terms = tmp_path_factory.mktemp("shared"), [open_agreement()]
    async with serving(directory, demo_plan(), terms, models=models) as server:
        server.engine.say("The end.")
        yield server
