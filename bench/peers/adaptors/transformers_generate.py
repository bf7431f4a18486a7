"""transformers' own loop, `generate`, with its default cache: one padded batch, which ends with its longest request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import transformers

from bench.peers.serving import NotOffered, Output, Setup, main

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TransformersGenerate:
    """Prompts are padded on the left, as `generate` wants it; padding is cut off its output."""

    def __init__(self, setup: Setup) -> None:
        self._model = load_model(setup)

    @property
    def versions(self) -> dict[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    @property
    def form(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        output = self._model.generate(
            ids, attention_mask=mask, max_new_tokens=max(outputs), do_sample=False, eos_token_id=None, pad_token_id=0
        )
        rows = output[:, width:].tolist()
        return Output([row[:count] for row, count in zip(rows, outputs, strict=True)], [])

    @torch.inference_mode()
    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        for text in texts:
            begin, cache = len(text) - last + 1, None
            for piece in (text[:begin], *([id_] for id_ in text[begin:])):
                fed = self._model(torch.tensor([piece]), past_key_values=cache, use_cache=True)
                cache = fed.past_key_values
                yield fed.logits[0, -1].float().numpy().tobytes()


def load_model(setup: Setup) -> Any:
    """The model in this format. Raises NotOffered for others."""
    if setup.format not in DTYPES:
        raise NotOffered(f"transformers has no {setup.format} of GPT-2 for CPUs")
    torch.set_num_threads(setup.threads)
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(setup.checkpoint, dtype=DTYPES[setup.format])
    return model.eval()


if __name__ == "__main__":
    main(TransformersGenerate)
