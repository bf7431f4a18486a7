"""What soak tests print their figures with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Show:
    """Print a line of figures past pytest's capturing."""

    def print_line(figures: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {figures}")

    return print_line
