"""What soak tests print their figures with, and what a failed one shows."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest
from real_server import add_logs

Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Show:
    """Print a line of figures past pytest's capturing."""

    def print_line(figures: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {figures}")

    return print_line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of a failed test's servers with its failure."""
    report = yield
    return add_logs(item, report)
