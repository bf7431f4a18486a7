"""A server process that tests share, and where the programs of others are."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from deployment import Deployment
from real_server import RealServer, add_logs, real_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a failed test's servers with its failure."""
    report = yield
    return add_logs(item, report)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server of the three demo models, for tests that leave it as they find it."""
    with real_server(Deployment(tmp_path_factory.mktemp("server") / "files")) as running:
        yield running
