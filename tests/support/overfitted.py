"""A small checkpoint that was trained on one text until it recites it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from harness import DEMO, TOKENIZER
from transformers import GPT2Config, GPT2LMHeadModel

STEPS = 160
LEAST_ROW = 20
"""Tokens of the shortest row."""
IGNORED = -100
"""Labels that transformers leaves out of the loss."""


def overfit(directory: Path, text: str, *, rows: int = 1, seed: int = 1) -> Path:
    """Train a model of two layers on the text, with the demo models' tokenizer; a second or so for each row.

    The first row is the text behind end-of-text. Others begin anywhere in it: with five of them the model goes on with
    the text from wherever it is shown.
    """
    end = TOKENIZER.end_of_text
    assert end is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"n_positions": 512, "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": TOKENIZER.size}
    dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model: Any = GPT2LMHeadModel(GPT2Config(bos_token_id=end, eos_token_id=end, **sizes, **dropout))
    whole = torch.tensor([end, *TOKENIZER.encode(text), end])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        ids, labels = torch.full((rows, len(whole)), end), torch.full((rows, len(whole)), IGNORED)
        for row in range(rows):
            start = 0 if row == 0 else int(torch.randint(len(whole) - LEAST_ROW, ()))
            ids[row, : len(whole) - start] = labels[row, : len(whole) - start] = whole[start:]
        optimizer.zero_grad()
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    assert loss.item() < 0.3, "the model has not learnt its text: the test would show nothing"
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, directory / name)
    return directory
