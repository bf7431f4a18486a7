from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from gpt2_reference import build_reference, generate, greedy_reference
from msgspec import structs
from structlog.testing import capture_logs

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load, Sampling
from sluicegate.server.gpt2 import load_runner, loading
from sluicegate.server.gpt2.cache import slot_bytes
from sluicegate.server.gpt2.config import load_config
from sluicegate.server.gpt2.kernels import Kernels, KernelsUnavailable
from sluicegate.server.gpt2.kernels.processor import TIERS, Tier
from sluicegate.server.gpt2.network import Network

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 50}
MIB = 1 << 20


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, **SIZES)


@pytest.fixture(scope="module")
def load(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """An order to load a checkpoint that transformers saved."""
    directory = tmp_path_factory.mktemp("checkpoint")
    reference.save_pretrained(directory)
    return Load(
        model="tiny",
        directory=str(directory),
        weights_sha256=None,
        device="cpu",
        dtype="float32",
        slots=3,
        step_tokens=16,
    )


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes the machine says are free."""

    def set_bytes(free: int | None) -> None:
        monkeypatch.setattr(loading, "free_bytes", lambda _: free)

    return set_bytes


def test_loaded_model_continues_a_text_as_transformers_does(load: Load, reference: Any) -> None:
    output = generate(load_runner(load), {1: [3, 1, 4]}, {1: Sampling(temperature=0)}, steps=10)

    assert output == {1: greedy_reference(reference, [3, 1, 4], 10)}


@pytest.mark.parametrize(("dtype", "item_bytes"), [("float32", 4), ("bfloat16", 2)])
def test_facts_say_what_was_loaded(load: Load, reference: Any, dtype: str, item_bytes: int) -> None:
    facts = load_runner(structs.replace(load, dtype=dtype)).facts

    assert facts.parameters == sum(parameter.numel() for parameter in reference.parameters())
    assert (facts.context_length, facts.vocabulary_size, facts.eos_token_id) == (16, 50, 0)
    assert (facts.dtype, facts.device, facts.slots) == (dtype, "cpu", 3)
    assert facts.cache_bytes == 3 * 2 * 2 * 16 * 8 * item_bytes
    assert len(bytes.fromhex(facts.weights_sha256)) == 32


def test_digest_in_the_facts_can_be_pinned(load: Load) -> None:
    digest = load_runner(load).facts.weights_sha256

    assert load_runner(structs.replace(load, weights_sha256=digest)).facts.weights_sha256 == digest


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dtype": "float64"}, "dtype 'float64' is not served; use one of: auto, float32, bfloat16"),
        ({"dtype": ""}, "dtype '' is not served"),
        ({"device": "tpu"}, "device 'tpu' is not served; use auto, cpu, cuda or cuda:N"),
        ({"device": "cpu:0"}, "device 'cpu:0' is not served"),
        ({"device": "cuda:-1"}, "device 'cuda:-1' is not served"),
        ({"slots": 0}, "tiny: 0 slots; at least one is needed"),
        ({"slots": -1}, "tiny: -1 slots"),
        ({"directory": "/nowhere/at/all"}, "/nowhere/at/all is no directory"),
        ({"weights_sha256": "00" * 32}, f"but {'00' * 32} is pinned"),
    ],
)
def test_load_that_cannot_be_done_says_why(load: Load, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        load_runner(structs.replace(load, **changes))

    assert problem in str(refusal.value)


@pytest.mark.parametrize(
    ("device", "found", "problem"),
    [
        ("cuda", 0, "device cuda was asked for, but torch .* finds 0 CUDA devices; check the driver"),
        ("cuda:0", 0, "device cuda:0 was asked for"),
        ("cuda:2", 2, "device cuda:2 was asked for, but torch .* finds 2 CUDA devices"),
    ],
)
def test_cuda_device_that_is_not_there_is_refused_and_not_replaced(
    load: Load, monkeypatch: pytest.MonkeyPatch, device: str, found: int, problem: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)

    with pytest.raises(ModelLoadError, match=problem):
        load_runner(structs.replace(load, device=device))


def test_auto_is_float32_on_a_machine_without_cuda_and_kernels(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    facts = load_runner(structs.replace(load, device="auto", dtype="auto"), use_kernels=False).facts

    assert (facts.device, facts.dtype) == ("cpu", "float32")


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_auto_is_bfloat16_on_a_cpu_whose_kernels_multiply_it(tier: Tier) -> None:
    kernels = SimpleNamespace(tier=tier)

    dtype = loading.find_dtype("auto", torch.device("cpu"), cast("Kernels", kernels))

    assert (dtype == torch.bfloat16) is (tier.name in {"amx", "avx512_bf16"})


def test_without_kernels_torch_serves_the_model_and_the_reason_is_logged(
    load: Load, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(threads: int) -> Kernels:
        raise KernelsUnavailable(f"no compiler for {threads} threads")

    monkeypatch.setattr(loading, "open_kernels", refuse)
    loading.find_kernels.cache_clear()
    with capture_logs() as logs:
        output = generate(load_runner(load), {1: [3, 1, 4]}, {1: Sampling(temperature=0)}, steps=10)
    loading.find_kernels.cache_clear()

    assert output == {1: greedy_reference(reference, [3, 1, 4], 10)}
    reasons = [entry["reason"] for entry in logs if entry["event"] == "kernels_unavailable"]
    assert reasons == ["no compiler for 1 threads"]


def test_auto_is_bfloat16_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    device = loading.find_device("auto")

    assert (device.type, loading.find_dtype("auto", device)) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize("slots", [1, 5, 31])
def test_slots_are_counted_from_the_memory_that_is_free_beside_the_weights(
    load: Load, reference: Any, free_memory: Any, slots: int
) -> None:
    weights = 4 * sum(parameter.numel() for parameter in reference.parameters())
    slot = slot_bytes(load_config(Path(load.directory)), torch.float32)
    free_memory(weights + math.ceil(slots * slot / 0.9))

    assert load_runner(structs.replace(load, slots=None)).facts.slots == slots


@pytest.mark.parametrize("room", [2.2, 3.0, 9.5, 40.0])
def test_counted_slots_leave_room_for_those_of_rows_that_fill_up_a_graph(
    load: Load, free_memory: Any, room: float
) -> None:
    config = load_config(Path(load.directory))
    slot = slot_bytes(config, torch.float32)
    free_memory(config.parameters * 4 + int(room * slot))
    cpu = torch.device("cpu")

    slots = loading._count_slots(structs.replace(load, slots=None), config, torch.float32, cpu, 1)

    loading._check_memory(config, slots, 1, torch.float32, cpu)
    assert slots >= min(room * 0.9 - 2, loading.MOST_SLOTS["cpu"])


def test_slots_are_counted_from_the_model_s_share_alone(load: Load, reference: Any, free_memory: Any) -> None:
    weights = 4 * sum(parameter.numel() for parameter in reference.parameters())
    slot = slot_bytes(load_config(Path(load.directory)), torch.float32)
    free_memory(4 * (weights + math.ceil(6 * slot / 0.9)))

    assert load_runner(structs.replace(load, slots=None, memory_share=0.25)).facts.slots == 6


def test_slots_are_counted_with_what_a_draft_model_takes_beside_each(
    load: Load, reference: Any, free_memory: Any
) -> None:
    weights = 4 * sum(parameter.numel() for parameter in reference.parameters())
    slot = slot_bytes(load_config(Path(load.directory)), torch.float32)
    free_memory(weights + math.ceil(6 * slot / 0.9))

    assert load_runner(structs.replace(load, slots=None, draft_slot_bytes=slot // 2)).facts.slots == 4


def test_there_are_never_more_slots_than_pay_and_one_at_least_if_it_fits(load: Load, free_memory: Any) -> None:
    free_memory(MIB * MIB)
    assert load_runner(structs.replace(load, slots=None)).facts.slots == loading.MOST_SLOTS["cpu"]

    free_memory(MIB)
    assert load_runner(structs.replace(load, slots=None, memory_share=1e-6)).facts.slots == 1


def test_counting_slots_where_the_free_memory_is_not_known_asks_for_a_number(load: Load, free_memory: Any) -> None:
    free_memory(None)

    with pytest.raises(ModelLoadError, match=r"tiny: .*; give a number of slots"):
        load_runner(structs.replace(load, slots=None))


# Memory, of a model of 40 MB in float32 with 1 MiB a slot


@pytest.fixture
def large(tmp_path: Path, load: Load) -> Load:
    """An order to load a larger model, of which there is only the config."""
    sizes = {"n_layer": 4, "n_head": 8, "n_embd": 256, "n_positions": 128, "vocab_size": 28_000}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    return structs.replace(load, directory=str(tmp_path), slots=100)


def test_what_cannot_fit_is_refused_before_the_weights_are_read_with_what_would_fit(
    large: Load, free_memory: Any
) -> None:
    free_memory(60 * MIB)

    with pytest.raises(ModelLoadError) as refusal:
        load_runner(large)

    assert str(refusal.value) == (
        "not enough memory on cpu: the weights take 39 MiB and 100 slots 100 MiB (1.0 MiB each in torch.float32), "
        "60 MiB are free; 18 slots would fit"
    )


def test_number_of_slots_that_is_advised_passes_the_check(large: Load, free_memory: Any) -> None:
    free_memory(60 * MIB)

    with pytest.raises(ModelLoadError, match=r"holds neither model\.safetensors"):
        load_runner(structs.replace(large, slots=18))


def test_model_of_which_not_one_slot_fits_gets_other_advice(large: Load, free_memory: Any) -> None:
    free_memory(39 * MIB)

    for slots in (1, None):
        with pytest.raises(ModelLoadError, match=r"39 MiB are free; use a smaller model, or bfloat16$"):
            load_runner(structs.replace(large, slots=slots))


def test_unknown_amount_of_memory_is_no_obstacle(load: Load, free_memory: Any) -> None:
    free_memory(None)

    assert load_runner(load).facts.slots == 3


def test_allocation_that_fails_all_the_same_is_a_load_error(load: Load, free_memory: Any) -> None:
    free_memory(None)

    with pytest.raises(ModelLoadError, match=r"not enough memory on cpu: .*; ask for fewer slots"):
        load_runner(structs.replace(load, slots=10**12))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory on cpu"),
        (MemoryError(), "not enough memory on cpu"),
        (RuntimeError("no kernel image is available"), "torch cannot place the model on cpu: no kernel image"),
    ],
)
def test_failure_of_torch_is_a_load_error_that_blames_memory_only_where_it_ran_out(
    load: Load, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    def allocate(*_: object) -> None:
        raise error

    monkeypatch.setattr(Network, "new_cache", allocate)

    with pytest.raises(ModelLoadError, match=problem) as refusal:
        load_runner(load)

    assert refusal.value.__cause__ is error


def test_slot_of_the_larger_model_is_the_size_that_its_figures_assume(large: Load) -> None:
    assert slot_bytes(load_config(Path(large.directory)), torch.float32) == MIB
