"""llama.cpp through its batch interface: prompts first, then one token of every sequence a step.

The loop is written here, since llama_cpp's own `Llama` serves one sequence at a time; the work in it is llama.cpp's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from bench.peers.serving import NotOffered, Output, Setup, main

TYPES = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}
BATCH_TOKENS = 2_048
VOCABULARY = 50_257
CONTEXT_OF_TRIAL = 64

Item = tuple[int, int, int, bool]
"""A token, its position, its sequence, and whether its logits are wanted."""


class LlamaCpp:
    """One context for all slots, each with its own share of the cache."""

    def __init__(self, setup: Setup) -> None:
        if setup.format not in TYPES:
            raise NotOffered(f"no {setup.format}")
        self._form = TYPES[setup.format]
        path = setup.converted(f"{self._form}.gguf", lambda to: _convert(setup.checkpoint, to, self._form))
        self._has_layouts = _survives(path)
        self._context = _context(path, setup.slots, setup.context, setup.threads, has_layouts=self._has_layouts)
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)

    @property
    def versions(self) -> dict[str, str]:
        return {"llama-cpp-python": llama_cpp.__version__}

    @property
    def form(self) -> str:
        return self._form if self._has_layouts else f"{self._form}, plain layouts"

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        self._clear()
        rows: list[list[int]] = [[] for _ in prompts]
        prefill = [
            (id_, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, id_ in enumerate(prompt)
        ]
        for sequence, row in self._feed(prefill):
            rows[sequence].append(int(row.argmax()))
        while running := [index for index, count in enumerate(outputs) if len(rows[index]) < count]:
            items = [(rows[index][-1], len(prompts[index]) + len(rows[index]) - 1, index, True) for index in running]
            for sequence, row in self._feed(items):
                rows[sequence].append(int(row.argmax()))
        return Output(rows, [])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        for text in texts:
            self._clear()
            begin = len(text) - last + 1
            for start, end in [(0, begin), *((index, index + 1) for index in range(begin, len(text)))]:
                for _, row in self._feed([(text[index], index, 0, index == end - 1) for index in range(start, end)]):
                    yield np.array(row, dtype=np.float32).tobytes()

    def _clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _feed(self, items: Sequence[Item]) -> Iterator[tuple[int, Any]]:
        """Decode; sequence and logits (valid until the next feed) of each item that wants them."""
        for start in range(0, len(items), BATCH_TOKENS):
            part = items[start : start + BATCH_TOKENS]
            batch = self._batch
            batch.n_tokens = len(part)
            for index, (id_, position, sequence, wanted) in enumerate(part):
                batch.token[index], batch.pos[index], batch.logits[index] = id_, position, wanted
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
            if code := llama_cpp.llama_decode(self._context, batch):
                raise RuntimeError(f"llama_decode gave {code}")
            for index, (_, _, sequence, wanted) in enumerate(part):
                if wanted:
                    logits = llama_cpp.llama_get_logits_ith(self._context, index)
                    yield sequence, np.ctypeslib.as_array(logits, (VOCABULARY,))


def _context(path: Path, slots: int, context: int, threads: int, *, has_layouts: bool) -> Any:
    """The model with a cache of so many slots. `has_layouts`: weights laid out for the processor's instructions."""
    llama_cpp.llama_backend_init()
    loading = llama_cpp.llama_model_default_params()
    loading.use_extra_bufts = has_layouts
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), loading)
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = slots * context
    options.n_seq_max = slots
    options.n_batch = BATCH_TOKENS
    options.n_threads = options.n_threads_batch = threads
    found = llama_cpp.llama_init_from_model(model, options)
    if not found:
        raise MemoryError("llama.cpp could not make its context")
    return found


def _survives(path: Path) -> bool:
    """Whether llama.cpp's own layouts of weights work here, tried in a process of its own: some virtual machines show
    AMX, and then these layouts end in a fault."""
    trial = get_context("spawn").Process(target=_try, args=(path,))
    trial.start()
    trial.join()
    return trial.exitcode == 0


def _try(path: Path) -> None:
    context = _context(path, 1, CONTEXT_OF_TRIAL, 1, has_layouts=True)
    batch = llama_cpp.llama_batch_get_one((llama_cpp.llama_token * CONTEXT_OF_TRIAL)(), CONTEXT_OF_TRIAL)
    assert llama_cpp.llama_decode(context, batch) == 0


def _convert(checkpoint: Path, to: Path, kind: str) -> None:
    """A GGUF file with llama.cpp's names of the weights; norms and biases stay in float32, as its converter has it."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    weights = {
        name.removeprefix("transformer."): value for name, value in load_file(checkpoint / "model.safetensors").items()
    }
    quantized = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(to, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])

    def matrix(name: str, value: Any) -> None:
        data = np.ascontiguousarray(value, dtype=np.float32)
        writer.add_tensor(name, gguf.quants.quantize(data, quantized), raw_dtype=quantized)

    matrix("token_embd.weight", weights["wte.weight"])
    matrix("output.weight", weights["wte.weight"])
    matrix("position_embd.weight", weights["wpe.weight"])
    for part in ("weight", "bias"):
        writer.add_tensor(f"output_norm.{part}", weights[f"ln_f.{part}"])
        for layer in range(config["n_layer"]):
            for ours, theirs in (("ln_1", "attn_norm"), ("ln_2", "ffn_norm")):
                writer.add_tensor(f"blk.{layer}.{theirs}.{part}", weights[f"h.{layer}.{ours}.{part}"])
            for ours, theirs in (
                ("attn.c_attn", "attn_qkv"),
                ("attn.c_proj", "attn_output"),
                ("mlp.c_fc", "ffn_up"),
                ("mlp.c_proj", "ffn_down"),
            ):
                value, name = weights[f"h.{layer}.{ours}.{part}"], f"blk.{layer}.{theirs}.{part}"
                matrix(name, value.T) if part == "weight" else writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(LlamaCpp)
