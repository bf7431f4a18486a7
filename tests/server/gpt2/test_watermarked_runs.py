"""Marked text of a trained model, through the real scheduler and runner, by torch and by the kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gpt2_crowd import OTHERS, agreement, alone, asked, in_a_crowd
from gpt2_reference import DEMO_MODELS, demo_load, random_ids
from msgspec.structs import replace
from transformers import BayesianDetectorConfig, BayesianDetectorModel, GPT2LMHeadModel, SynthIDTextWatermarkDetector
from watermarks import key_of, processor_of, scheme_of

from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Runner
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.watermark import Detector
from sluicegate.server.watermark.scheme import DEPTH

KEY, PROMPT_TOKENS, OUTPUT_TOKENS = 8, 40, 120
MARKED = Sampling(watermark=True, max_output_tokens=OUTPUT_TOKENS, ignore_eos=True, seed=5)


@pytest.fixture(scope="module", params=[True, False], ids=["kernels", "torch"])
def has_kernels(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def runner(has_kernels: bool) -> Runner:
    load = replace(demo_load("float32", slots=OTHERS + 8), watermark=WatermarkKey(*key_of(KEY)))
    return load_runner(load, use_kernels=has_kernels)


def prompt_of(seed: int, runner: Runner) -> list[int]:
    return random_ids(seed, PROMPT_TOKENS, runner.facts.vocabulary_size)


@pytest.mark.parametrize("sampling", [MARKED, replace(MARKED, top_p=0.9, repetition_penalty=1.2)])
def test_marked_text_is_the_same_alone_and_in_a_crowd(runner: Runner, sampling: Sampling, has_kernels: bool) -> None:
    """With torch but for a token where rounding tips the draw, which depends on the processor (test_determinism.py)."""
    request = asked(prompt_of(1, runner), sampling, candidates=4)
    by_candidate, among_others = alone(runner, request), in_a_crowd(runner, request, seed=1)

    result = agreement((by_candidate[candidate], among_others[candidate]) for candidate in range(4))

    assert result.rate >= (1 if has_kernels else 0.99)


def test_marked_text_is_found_by_its_key_and_no_other(runner: Runner) -> None:
    detectors = {seed: Detector(scheme_of(seed)) for seed in (KEY, KEY + 1)}
    texts = [alone(runner, asked(prompt_of(seed, runner), replace(MARKED, seed=seed)))[0] for seed in range(5)]
    plain = alone(runner, asked(prompt_of(1, runner), replace(MARKED, watermark=False)))[0]

    assert max(detectors[KEY].measure(text).p_value for text in texts) < 1e-6
    assert min(detectors[KEY + 1].measure(text).p_value for text in texts) > 1e-3
    assert detectors[KEY].measure(plain).p_value > 1e-3


def detector_of_transformers() -> Any:
    """transformers' detector under our key; its probabilities of the layers are what an untrained one has."""
    torch.manual_seed(1)
    model: Any = BayesianDetectorModel(BayesianDetectorConfig(watermarking_depth=DEPTH))  # type: ignore[no-untyped-call]

    class Tokens:
        eos_token_id = -1

    return SynthIDTextWatermarkDetector(model, processor_of(KEY), Tokens())


def test_transformers_detector_finds_our_mark(runner: Runner) -> None:
    detector = detector_of_transformers()
    request = asked(prompt_of(3, runner), MARKED)

    with torch.inference_mode():
        marked = detector(torch.tensor([alone(runner, request)[0]]))[0].item()
        plain = asked(prompt_of(3, runner), replace(MARKED, watermark=False))
        unmarked = detector(torch.tensor([alone(runner, plain)[0]]))[0].item()

    assert marked > 0.999
    assert unmarked < 0.5


def test_our_detector_finds_the_mark_of_transformers(runner: Runner) -> None:
    model: Any = GPT2LMHeadModel.from_pretrained(DEMO_MODELS / "demo-xs", dtype=torch.float32)
    prompt = torch.tensor([prompt_of(4, runner)])
    torch.manual_seed(2)

    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        top_k=100,
        max_new_tokens=OUTPUT_TOKENS,
        min_new_tokens=OUTPUT_TOKENS,
        logits_processor=[processor_of(KEY)],
        pad_token_id=0,
    )[0, PROMPT_TOKENS:].tolist()

    assert Detector(scheme_of(KEY)).measure(output).p_value < 1e-6
    assert Detector(scheme_of(KEY + 1)).measure(output).p_value > 1e-3
