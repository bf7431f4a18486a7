"""A checkpoint of random weights whose streams last: many thin layers, and a context for thousands of tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from deployment import DEMO_MODELS
from safetensors.numpy import save_file

from sluicegate.server.gpt2.config import load_config, weight_shapes

LAYERS, WIDTH = 24, 8
CONTEXT = 4_160
TOKENS = 4_000
"""A stream of so many tokens takes some ten seconds on a core of its own, longer in company."""


def write_slow_model(directory: Path, *, seed: int = 1) -> Path:
    """Write the checkpoint, with the tokenizer of the smallest demo model."""
    model = DEMO_MODELS / "demo-xs"
    directory.mkdir()
    shutil.copy(model / "tokenizer.json", directory)
    sizes = {"n_layer": LAYERS, "n_head": 1, "n_embd": WIDTH, "n_inner": WIDTH, "n_positions": CONTEXT}
    config = json.loads((model / "config.json").read_text()) | sizes | {"n_ctx": CONTEXT}
    (directory / "config.json").write_text(json.dumps(config))
    draws = np.random.default_rng(seed)
    shapes = weight_shapes(load_config(directory))
    weights = {name: draws.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, directory / "model.safetensors")
    return directory
