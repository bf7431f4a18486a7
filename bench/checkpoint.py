"""Random GPT-2 checkpoints: as transformers initialises them, with a tokenizer, so that servers take them."""

from __future__ import annotations

import itertools
import json
import os
import string
import tempfile
from pathlib import Path
from typing import Any

from bench.work import CONTEXT, SHAPES, VOCABULARY, Shape

SEED = 0
NARROW_WIDTH = 64
END_OF_TEXT = "<|endoftext|>"
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT} | dict.fromkeys(
    ("bos_token", "eos_token", "unk_token"), END_OF_TEXT
)
"""Written by hand: the class that transformers 5 names itself is unknown to what peers bring along."""


def cache_directory() -> Path:
    """Where what takes long to make is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluicegate-bench"


def random_checkpoint(shape: str, directory: Path | None = None) -> Path:
    """The directory of this shape's checkpoint, made if it is not there. It is whole or absent, never half written."""
    return checkpoint_of(shape, SHAPES[shape], directory)


def narrow_checkpoint(shape: str, directory: Path | None = None) -> Path:
    """One of as many layers and hardly any width: what it takes is what a step costs whatever the width."""
    return checkpoint_of(f"{shape}-narrow", Shape(SHAPES[shape].layers, NARROW_WIDTH, 1), directory)


def checkpoint_of(name: str, shape: Shape, directory: Path | None = None) -> Path:
    """As `random_checkpoint`, by a name of its own."""
    parent = directory or cache_directory()
    path = parent / f"gpt2-{name}"
    if not path.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as temporary:
            made = Path(temporary) / "checkpoint"
            _save_model(shape, made)
            _save_tokenizer(made)
            made.rename(path)
    return path


def _save_model(shape: Shape, directory: Path) -> None:
    """Normal with deviation 0.02, the residuals' projections less (transformers' `initializer_range`)."""
    import torch
    import transformers
    from transformers import GPT2Config, GPT2LMHeadModel

    logging: Any = transformers.logging
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    config = GPT2Config(n_layer=shape.layers, n_embd=shape.width, n_head=shape.heads)
    model: Any = GPT2LMHeadModel(config)
    model.save_pretrained(directory)


def _save_tokenizer(directory: Path) -> None:
    """A byte-level BPE of GPT-2's size without merges: every id decodes to letters, about as many as GPT-2's do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = (f"\u0120{''.join(letters)}" for letters in itertools.product(string.ascii_lowercase, repeat=4))
    tokens = [*symbols, *itertools.islice(words, VOCABULARY - 1 - len(symbols)), END_OF_TEXT]
    tokenizer = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(os.fspath(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
