"""CTranslate2's Generator: one batch, greedy by beam size 1."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from bench.peers.serving import Output, Setup, main

NAMES = "t{}"
"""CTranslate2 speaks in tokens' names; these are made up."""


class CTranslate2:
    """Requests of different lengths are grouped by what they generate: a call has one `max_length`."""

    def __init__(self, setup: Setup) -> None:
        path = setup.converted("ctranslate2", lambda to: _convert(setup.checkpoint, to))
        self._generator = ctranslate2.Generator(
            os.fspath(path), device="cpu", compute_type=setup.format, inter_threads=1, intra_threads=setup.threads
        )

    @property
    def versions(self) -> dict[str, str]:
        return {"ctranslate2": str(ctranslate2.__version__)}

    @property
    def form(self) -> str:
        return str(self._generator.compute_type)

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        longest = max(outputs)
        answers = self._generator.generate_batch(
            [[NAMES.format(id_) for id_ in prompt] for prompt in prompts],
            max_length=longest,
            min_length=longest,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
            max_batch_size=0,
            disable_unk=False,
        )
        rows = [answer.sequences_ids[0] for answer in answers]
        return Output([list(row[:count]) for row, count in zip(rows, outputs, strict=True)], [])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        """In one pass: it has no decode step that takes a given token."""
        for text in texts:
            found = self._generator.forward_batch([[NAMES.format(id_) for id_ in text]])
            yield np.asarray(found.to(ctranslate2.DataType.float32))[0, -last:].tobytes()


def _convert(checkpoint: Path, to: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]  # with names for a vocabulary that has none
        def load_tokenizer(self, *_arguments: Any, **_options: Any) -> Any:
            return _Names()

    Converter(os.fspath(checkpoint)).convert(os.fspath(to))


class _Names:
    """The little of a tokenizer that the converter asks for."""

    bos_token = eos_token = unk_token = NAMES.format(50_256)
    eos_token_id = 50_256

    def __len__(self) -> int:
        return 50_257

    def get_vocab(self) -> dict[str, int]:
        return {NAMES.format(id_): id_ for id_ in range(len(self))}


if __name__ == "__main__":
    main(CTranslate2)
