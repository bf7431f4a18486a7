"""transformers' continuous batching, `generate_batch`: paged attention, started anew for each call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import transformers

from bench.peers.adaptors.transformers_generate import load_model
from bench.peers.serving import NotOffered, Output, Setup, main

NO_TOKEN = -1
"""As end-of-text: generation never meets it."""


class TransformersContinuous:
    """One request's `max_new_tokens` holds for all of a call: unequal requests are made with the longest, and cut."""

    def __init__(self, setup: Setup) -> None:
        self._model = load_model(setup)
        blocks = -(-setup.slots * setup.context // 256)  # of its default size
        self._batching = transformers.ContinuousBatchingConfig(num_blocks=max(blocks, 16), max_batch_tokens=1_024)

    @property
    def versions(self) -> dict[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    @property
    def form(self) -> str:
        return str(self._model.dtype).removeprefix("torch.")

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        configuration: Any = transformers.GenerationConfig
        config = configuration(max_new_tokens=max(outputs), do_sample=False, eos_token_id=NO_TOKEN, pad_token_id=0)
        answers = self._model.generate_batch(
            inputs=prompts,
            generation_config=config,
            continuous_batching_config=self._batching,
            progress_bar=False,
        )
        by_prompt = {tuple(answer.prompt_ids): answer.generated_tokens for answer in answers.values()}
        rows = [by_prompt[tuple(prompt)] for prompt in prompts]
        return Output([list(row[:count]) for row, count in zip(rows, outputs, strict=True)], [])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        raise NotOffered("continuous batching gives no logits of a given text")


if __name__ == "__main__":
    main(TransformersContinuous)
