"""Models without weights, and the demo's world made with them: the pure tests need no checkpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from issuer import NOW

from sluicegate.server.demo.world import MODELS, World, write_world


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """What the demo reads of its models: digests and shapes."""
    directory = tmp_path / "models with spaces"
    for index, model in enumerate(MODELS):
        shape = {"parameters": 1_000 * (index + 1), "positions": 1_024, "vocabulary": 3_840}
        (directory / model).mkdir(parents=True)
        (directory / model / "evaluation.json").write_text(json.dumps({"shape": shape}))
    lines = [f"{str(index) * 64}  {model}/model.safetensors\n" for index, model in enumerate(MODELS)]
    (directory / "SHA256SUMS").write_text("".join(lines))
    return directory


@pytest.fixture
def world(tmp_path: Path, models: Path) -> World:
    directory = tmp_path / "demo"
    directory.mkdir()
    return write_world(directory, datetime.fromtimestamp(NOW, UTC), models=models)
