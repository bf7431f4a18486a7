"""What pyproject.toml and constraints.txt promise."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FILE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = FILE["project"]
COMMANDS = {**PROJECT["scripts"], **PROJECT["entry-points"]["sluicegate.commands"]}
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_leads_to_something_that_can_be_called(command: str) -> None:
    target = EntryPoint(name=command, value=COMMANDS[command], group="").load()

    assert callable(target)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_requirement_is_met_by_its_pin(requirement: Requirement) -> None:
    (pin,) = pins()[canonicalize_name(requirement.name)].specifier

    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version)


def test_the_source_distribution_has_every_folder_of_the_project() -> None:
    included = set(FILE["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])

    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}

    assert folders - {"build", "dist", "node_modules", "shared"} <= included
