"""Measure a saved demo model: its losses on text it learned from and on text it never saw, and a sample."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GPT2LMHeadModel

from tools.demo_models.recipe import END_OF_TEXT, POSITIONS

SHORT_WINDOW = 256
PROMPTS = ("The state of the Union is", "It was a truth")
SAMPLE_SEED = 1
SAMPLE_TOKENS = 60
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean over all predicted tokens; the bits are per byte of UTF-8, so they compare across tokenizers."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int


def losses(folder: Path, tokenizer: Tokenizer, training: list[int], validation: list[int]) -> dict[str, object]:
    """The losses of the model as saved in `folder`, on all of `validation` and as much of `training`.

    `window_256` reads the text in pieces of 256 tokens, `window_1024` in pieces that fill all positions, and
    `positions_768_to_1023` counts only the last quarter of those.
    """
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    sizes = torch.tensor([_byte_length(tokenizer, token) for token in range(tokenizer.get_vocab_size())])
    # From the middle of the training text, where speeches end and novels have not begun, it would not be
    # like the validation text: take evenly spaced pieces instead.
    pieces = len(validation) // POSITIONS
    stride = (len(training) - POSITIONS) // (pieces - 1)
    spread = [token for piece in range(pieces) for token in training[piece * stride :][:POSITIONS]]
    report: dict[str, object] = {}
    for name, ids in (("training", spread), ("validation", validation)):
        report[name] = {
            "window_256": asdict(_loss(model, sizes, ids, window=SHORT_WINDOW)),
            "window_1024": asdict(_loss(model, sizes, ids, window=POSITIONS)),
            "positions_768_to_1023": asdict(_loss(model, sizes, ids, window=POSITIONS, first=768)),
        }
    return report


def samples(folder: Path, tokenizer: Tokenizer) -> list[dict[str, object]]:
    """What the saved model writes after each prompt at temperature 0.8 among the 40 likeliest tokens."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    written: list[dict[str, object]] = []
    for prompt in PROMPTS:
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        with torch.no_grad():
            for _ in range(SAMPLE_TOKENS):
                best = model(ids).logits[0, -1].topk(40)
                chosen = torch.multinomial((best.values / 0.8).softmax(0), 1, generator=generator)
                ids = torch.cat([ids, best.indices[chosen].view(1, 1)], dim=1)
        text = tokenizer.decode(ids[0].tolist(), skip_special_tokens=False)
        written.append({"prompt": prompt, "seed": SAMPLE_SEED, "text": text})
    return written


def _loss(model: GPT2LMHeadModel, sizes: torch.Tensor, ids: list[int], *, window: int, first: int = 0) -> Loss:
    """Cut `ids` into whole windows and count the predictions made at positions `first` and later."""
    rows = _BATCH_TOKENS // window
    count = (len(ids) - 1) // window
    inputs = torch.tensor(ids[: count * window]).view(count, window)
    targets = torch.tensor(ids[1 : count * window + 1]).view(count, window)
    nats = 0.0
    with torch.no_grad():
        for row in range(0, count, rows):
            logits = model(inputs[row : row + rows]).logits[:, first:].flatten(0, 1)
            wanted = targets[row : row + rows, first:].flatten()
            nats += functional.cross_entropy(logits, wanted, reduction="sum").item()
    counted = targets[:, first:]
    bits_per_byte = nats / math.log(2) / int(sizes[counted].sum())
    return Loss(round(nats / counted.numel(), 4), round(bits_per_byte, 4), counted.numel())


def _byte_length(tokenizer: Tokenizer, token: int) -> int:
    """How many bytes of text a token stands for: each is one character in the byte-level alphabet."""
    text = tokenizer.id_to_token(token)
    return 0 if text is None or text == END_OF_TEXT else len(text)
