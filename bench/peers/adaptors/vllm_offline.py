"""vLLM's offline `LLM`: its engine without HTTP."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable
from typing import Any

from bench.peers.serving import NotOffered, Output, Setup, main

FORMATS = ("float32", "bfloat16")
STEP_TOKENS = 1_024


def environment(setup: Setup) -> dict[str, str]:
    """The environment that vLLM wants: the cores, room for the cache, and to ask nothing of the network. It sets its
    OpenMP threads itself, and warns where somebody else did."""
    cores = sorted(os.sched_getaffinity(0))[: setup.threads]
    config = json.loads((setup.checkpoint / "config.json").read_text(encoding="utf-8"))
    cache_bytes = 2 * 4 * config["n_layer"] * config["n_embd"] * setup.slots * setup.context
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return inherited | {
        "VLLM_CPU_KVCACHE_SPACE": str(1 + cache_bytes // 2**30),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
    }


class Vllm:
    """With its compiler and without prefix caching, so that no round finds its prompts read already."""

    def __init__(self, setup: Setup) -> None:
        if setup.format not in FORMATS:
            raise NotOffered(f"vLLM has no {setup.format} of an unquantised checkpoint for CPUs")
        wanted = environment(setup)
        os.environ.clear()
        os.environ.update(wanted)
        import vllm

        self._vllm = vllm
        self._form = setup.format
        self._model = vllm.LLM(
            os.fspath(setup.checkpoint),
            dtype=setup.format,
            skip_tokenizer_init=True,
            max_model_len=setup.context,
            max_num_seqs=setup.slots,
            max_num_batched_tokens=max(STEP_TOKENS, setup.context),
            enable_prefix_caching=False,
            max_logprobs=-1,
            disable_log_stats=True,
        )

    @property
    def versions(self) -> dict[str, str]:
        return {"vllm": str(self._vllm.__version__), "preloaded": os.environ.get("LD_PRELOAD", "")}

    @property
    def form(self) -> str:
        return self._form

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        answers = self._model.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            [self._greedy(max_tokens=count) for count in outputs],
            use_tqdm=False,
        )
        return Output([list(answer.outputs[0].token_ids) for answer in answers], [])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        """Log-probabilities of the whole vocabulary, each prefix as a prompt of its own."""
        prefixes = [text[:end] for text in texts for end in range(len(text) - last + 1, len(text) + 1)]
        for prefix in ({"prompt_token_ids": prefix} for prefix in prefixes):
            (answer,) = self._model.generate([prefix], self._greedy(max_tokens=1, logprobs=-1), use_tqdm=False)
            found = answer.outputs[0].logprobs[0]
            yield array("f", (found[id_].logprob for id_ in range(len(found)))).tobytes()

    def _greedy(self, **options: Any) -> Any:
        return self._vllm.SamplingParams(temperature=0, ignore_eos=True, detokenize=False, **options)


if __name__ == "__main__":
    main(Vllm)
