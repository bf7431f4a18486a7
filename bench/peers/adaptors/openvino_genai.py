"""OpenVINO GenAI's ContinuousBatchingPipeline, over the checkpoint as optimum-intel exports it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from bench.peers.serving import NotOffered, Output, Setup, main

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""Of inference. int8 is of the weights; activations are quantised as the CPU plug-in sees fit."""
CACHES = {"float32": "f32", "bfloat16": "bf16", "int8": "u8"}
"""Of keys and values. Where nothing is said the CPU plug-in keeps them in 8 bits, whatever inference's format is."""
BLOCK_TOKENS = 32
"""Of its paged cache on a CPU."""


class OpenVinoGenAi:
    """The pipeline for text; for logits the exported model itself, which has another attention but the same linears."""

    caches = CACHES

    def __init__(self, setup: Setup) -> None:
        if setup.format not in PRECISIONS:
            raise NotOffered(f"no {setup.format}")
        is_int8 = setup.format == "int8"
        self._directory = setup.converted(
            "openvino-int8" if is_int8 else "openvino", lambda to: _convert(setup.checkpoint, to, is_int8=is_int8)
        )
        precision, cache = PRECISIONS[setup.format], self.caches[setup.format]
        self._form = f"weights {'int8' if is_int8 else 'as inference'}, inference {precision}, cache {cache}"
        self._properties = {
            "INFERENCE_NUM_THREADS": setup.threads,
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": cache,
        }
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = setup.slots * -(-setup.context // BLOCK_TOKENS)
        scheduler.max_num_seqs = setup.slots
        scheduler.max_num_batched_tokens = 1_024
        scheduler.dynamic_split_fuse = False
        scheduler.enable_prefix_caching = False
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            os.fspath(self._directory), scheduler, "CPU", self._properties
        )

    @property
    def versions(self) -> dict[str, str]:
        return {"openvino-genai": str(openvino_genai.__version__)}

    @property
    def form(self) -> str:
        return self._form

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        ids = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
        answers = self._pipeline.generate(ids, [_greedy(count) for count in outputs])
        return Output([list(answer.m_generation_ids[0])[-n:] for answer, n in zip(answers, outputs, strict=True)], [])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        model = openvino.Core().compile_model(self._directory / "openvino_model.xml", "CPU", self._properties)
        names = {name for given in model.inputs for name in given.names}
        step = model.create_infer_request()
        for text in texts:
            step.reset_state()
            begin, done = len(text) - last + 1, 0
            for piece in (text[:begin], *([id_] for id_ in text[begin:])):
                done += len(piece)
                given: dict[str, Any] = {
                    "input_ids": np.array([piece], dtype=np.int64),
                    "attention_mask": np.ones((1, done), dtype=np.int64),
                    "position_ids": np.arange(done - len(piece), done, dtype=np.int64)[None],
                    "beam_idx": np.zeros(1, dtype=np.int32),
                }
                found = step.infer({name: value for name, value in given.items() if name in names})
                yield np.ascontiguousarray(found["logits"][0, -1], dtype=np.float32).tobytes()


def _greedy(tokens: int) -> Any:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = tokens
    config.ignore_eos = True
    config.do_sample = False
    return config


def _convert(checkpoint: Path, to: Path, *, is_int8: bool) -> None:
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import AutoTokenizer

    options = {"quantization_config": OVWeightQuantizationConfig(bits=8)} if is_int8 else {"load_in_8bit": False}
    OVModelForCausalLM.from_pretrained(checkpoint, export=True, **options).save_pretrained(to)
    tokenizer, detokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(checkpoint), with_detokenizer=True)
    openvino.save_model(tokenizer, to / "openvino_tokenizer.xml")
    openvino.save_model(detokenizer, to / "openvino_detokenizer.xml")


if __name__ == "__main__":
    main(OpenVinoGenAi)
