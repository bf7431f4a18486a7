from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sluicegate.client
from sluicegate.client import main

PACKAGE = Path(sluicegate.client.__path__[0])


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    paths = [path for path in sys.path if path]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import sluicegate.client.main",
        "import sluicegate.client",
        "from sluicegate.client.commands.app import build_app\n"
        "from typer.main import get_command; get_command(build_app())",
    ],
)
def test_the_command_line_starts_without_what_only_a_call_or_a_server_needs(statement: str) -> None:
    loaded = modules_after(statement)

    heavy = ("grpc", "google", "torch", "numpy", "scipy", "pydantic", "jinja2", "rfc8785", "httpx")
    ours = (
        "sluicegate.server",
        "sluicegate.auth",
        "sluicegate.v1",
        "sluicegate.evidence",
        "sluicegate.client.evaluation",
    )
    assert [name for name in loaded if name.split(".")[0] in heavy or name.startswith(ours)] == []


def test_every_public_name_can_be_had() -> None:
    missing = [name for name in sluicegate.client.__all__ if not hasattr(sluicegate.client, name)]

    assert missing == []


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = sluicegate.client.Nothing


def test_no_module_imports_server_or_auth() -> None:
    found = [
        (file.name, name)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.startswith(("sluicegate.server", "sluicegate.auth", "torch"))
    ]

    assert found == []
    assert Path(main.__file__).is_relative_to(PACKAGE)
