"""A server process that tests share, and where the programs of others are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deployment import Deployment
from real_server import RealServer, real_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server of the three demo models, for tests that leave it as they find it."""
    with real_server(Deployment(tmp_path_factory.mktemp("server") / "files")) as running:
        yield running
