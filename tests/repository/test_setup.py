"""tools/setup.py, run as `make setup` runs it, in a checkout of its own and without installing."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment is up to date, by its stamp."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/setup.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    stamped(tmp_path).write_text(stamp(tmp_path))
    return tmp_path


def stamped(checkout: Path) -> Path:
    return checkout / ".venv/sluicegate-setup"


def stamp(checkout: Path) -> str:
    digest: str = runpy.run_path(str(checkout / "tools/setup.py"))["stamp"]()
    return digest


def run(checkout: Path, before: str = "pass") -> subprocess.CompletedProcess[str]:
    program = f"import runpy, sys; {before}; runpy.run_path('tools/setup.py', run_name='__main__')"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=checkout)


def test_environment_with_a_fitting_stamp_is_left_alone(checkout: Path) -> None:
    result = run(checkout)

    assert (result.returncode, result.stderr) == (0, "")
    assert list((checkout / ".venv").iterdir()) == [stamped(checkout)]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_stamp_no_longer_fits_when_the_packages_change(checkout: Path, name: str) -> None:
    before = stamp(checkout)

    with (checkout / name).open("a") as file:
        file.write("# one more line\n")

    assert stamp(checkout) != before


def test_stamp_does_not_fit_in_another_place(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("elsewhere") / "checkout"

    shutil.copytree(checkout, moved)

    assert stamp(moved) != stamped(moved).read_text()


def test_python_without_venv_is_told_which_package_to_install(checkout: Path) -> None:
    result = run(checkout, before="sys.modules['ensurepip'] = None")

    assert result.returncode == 1
    assert "apt install python3-venv" in result.stderr


def test_python_that_is_too_old_is_told_which_one_is_needed(checkout: Path) -> None:
    result = run(checkout, before="sys.version_info = (3, 9)")

    assert result.returncode == 1
    assert "3.11" in result.stderr
    assert "PYTHON=" in result.stderr


def test_environment_that_cannot_be_made_leaves_no_stamp(checkout: Path) -> None:
    stamped(checkout).write_text("of another day")

    result = run(checkout, before="sys.executable = '/bin/false'")

    assert result.returncode == 1
    assert not stamped(checkout).exists()
