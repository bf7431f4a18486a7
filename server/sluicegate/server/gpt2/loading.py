"""Turn a Load command into a running model, or into a ModelLoadError that says what to do."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import structlog
import torch

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.runner import ModelFacts
from sluicegate.server.gpt2.cache import Cache, slot_bytes, slots_that_fit
from sluicegate.server.gpt2.config import Gpt2Config, load_config
from sluicegate.server.gpt2.cuda import CudaDevice
from sluicegate.server.gpt2.graph_runner import GraphRunner
from sluicegate.server.gpt2.kernels import Kernels, KernelsUnavailable, open_kernels
from sluicegate.server.gpt2.marks import build_scheme
from sluicegate.server.gpt2.memory import free_bytes, ran_out_of_memory
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.packed import PackedNetwork, can_be_packed
from sluicegate.server.gpt2.runner import TorchRunner
from sluicegate.server.gpt2.weights import Weights, load_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTO = "auto"
DEVICE_NAME = re.compile(r"cpu|cuda(:\d{1,3})?")
MIB = 1 << 20

log = structlog.get_logger()

# Where a step's time is no longer that of reading the weights once, and grows with each row (Williams et al. 2009,
# "Roofline"): a row takes 2 FLOP a weight. An H100 does 989 TFLOP in the time in which it reads 3.35 TB, and so 295
# rows in bfloat16; a server's CPU some 17 FLOP for each byte, and so 34 rows in float32. More slots would make all
# streams slower for no more tokens in all.
MOST_SLOTS = {"cpu": 32, "cuda": 256}


def load_runner(load: Load, *, use_kernels: bool = True, use_graphs: bool = True) -> TorchRunner | GraphRunner:
    """Load the model of `load.directory`. Blocks for seconds (it reads and hashes the weights).

    `use_kernels`: on a CPU, run it by the C++ kernels where they can be had; else by torch's operators. `use_graphs`:
    on CUDA, run it by graphs. Raises ModelLoadError for everything that can be wrong with the directory, the device or
    the memory.
    """
    device = find_device(load.device)
    kernels = find_kernels(torch.get_num_threads()) if use_kernels and device.type == "cpu" else None
    dtype = find_dtype(load.dtype, device, kernels)
    if load.slots is not None and load.slots < 1:
        raise ModelLoadError(f"{load.model}: {load.slots} slots; at least one is needed")
    directory = Path(load.directory)
    if not directory.is_dir():
        raise ModelLoadError(f"{directory} is no directory; give the path of a local checkpoint")
    config = load_config(directory)
    with_graphs = use_graphs and device.type == "cuda"
    fillers = int(with_graphs)  # the rows that fill up a graph have a slot, too
    slots = _count_slots(load, config, dtype, device, fillers) if load.slots is None else load.slots
    _check_memory(config, slots, fillers, dtype, device)
    try:
        weights = load_weights(directory, config, dtype, device, load.weights_sha256)
        network = _build_network(config, weights, kernels)
        cache = network.new_cache(slots + fillers)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise ModelLoadError(f"{directory}: torch cannot place the model on {device}: {error}") from error
        raise ModelLoadError(_too_large(config, slots, fillers, dtype, device)) from error
    runner = TorchRunner(network, cache, _facts(network, weights, slots, cache.nbytes), build_scheme(load.watermark))
    if with_graphs and isinstance(network, Network) and isinstance(cache, Cache):
        return GraphRunner(network, cache, runner, CudaDevice(device))
    return runner


def is_loaded_beside_others(device: str) -> bool:
    """Whether a model of this device can be loaded while others there run.

    On CUDA it cannot: while graphs are recorded, no other thread may launch anything.
    """
    return device == "cpu" or (device == AUTO and not torch.cuda.is_available())


@cache
def find_kernels(threads: int) -> Kernels | None:
    """The C++ kernels for this processor, built if need be (some seconds); None, with a warning, if there are none."""
    try:
        kernels = open_kernels(threads)
    except KernelsUnavailable as error:
        log.warning("kernels_unavailable", reason=str(error), advice="torch's own operators serve models, more slowly")
        return None
    log.info("kernels_ready", instructions=kernels.tier.name, threads=threads)
    return kernels


def find_dtype(name: str, device: torch.device, kernels: Kernels | None = None) -> torch.dtype:
    """The dtype of that name. Raises ModelLoadError for others than ours.

    `auto` is bfloat16 on CUDA, and on a CPU whose instructions multiply it and are used; float32 else.
    """
    if name == AUTO:
        multiplies = device.type == "cuda" or (kernels is not None and kernels.tier.multiplies_bfloat16)
        return torch.bfloat16 if multiplies else torch.float32
    if name not in DTYPES:
        raise ModelLoadError(f"dtype {name!r} is not served; use one of: {', '.join((AUTO, *DTYPES))}")
    return DTYPES[name]


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one. Raises ModelLoadError if it is not to be had."""
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not DEVICE_NAME.fullmatch(name):
        raise ModelLoadError(f"device {name!r} is not served; use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ModelLoadError(
                f"device {name} was asked for, but torch {torch.__version__} finds {found} CUDA devices; "
                "check the driver and CUDA_VISIBLE_DEVICES, install a CUDA build of torch, or use cpu"
            )
    return device


def _build_network(config: Gpt2Config, weights: Weights, kernels: Kernels | None) -> Network | PackedNetwork:
    dtype = weights.tensors["wte.weight"].dtype
    if kernels is not None and can_be_packed(config, dtype):
        return PackedNetwork(config, weights.tensors, kernels)
    return Network(config, weights.tensors)


def _facts(network: Network | PackedNetwork, weights: Weights, slots: int, cache_bytes: int) -> ModelFacts:
    config = network.config
    return ModelFacts(
        parameters=config.parameters,
        context_length=config.context_length,
        vocabulary_size=config.vocabulary_size,
        eos_token_id=config.eos_token_id,
        weights_sha256=weights.sha256,
        dtype=str(network.dtype).removeprefix("torch."),
        device=str(network.device),
        slots=slots,
        cache_bytes=cache_bytes,
    )


def _count_slots(load: Load, config: Gpt2Config, dtype: torch.dtype, device: torch.device, fillers: int) -> int:
    """As many as fit the model's share of the free memory beside its weights, one at least, and no more than pay."""
    free = free_bytes(device)
    if free is None:
        raise ModelLoadError(f"{load.model}: the system does not say how much memory is free; give a number of slots")
    usable = int(free * load.memory_share) - _weights_bytes(config, dtype)
    fitting = slots_that_fit(config, dtype, usable, load.draft_slot_bytes) - fillers
    return min(max(fitting, 1), MOST_SLOTS[device.type])


def _check_memory(config: Gpt2Config, slots: int, fillers: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse before reading gigabytes, and before the kernel's out-of-memory killer would answer."""
    free = free_bytes(device)
    if free is not None and _weights_bytes(config, dtype) + (slots + fillers) * slot_bytes(config, dtype) > free:
        raise ModelLoadError(_too_large(config, slots, fillers, dtype, device))


def _weights_bytes(config: Gpt2Config, dtype: torch.dtype) -> int:
    return config.parameters * dtype.itemsize


def _too_large(config: Gpt2Config, slots: int, fillers: int, dtype: torch.dtype, device: torch.device) -> str:
    weights, slot, free = _weights_bytes(config, dtype), slot_bytes(config, dtype), free_bytes(device)
    beside = f" and {fillers} for rows that fill up" if fillers else ""
    text = (
        f"not enough memory on {device}: the weights take {weights // MIB} MiB and {slots} slots{beside} "
        f"{(slots + fillers) * slot // MIB} MiB ({slot / MIB:.1f} MiB each in {dtype})"
    )
    if free is None:
        return f"{text}; ask for fewer slots"
    fitting = max(slots_that_fit(config, dtype, free - weights) - fillers, 0)
    advice = f"{fitting} slots would fit" if fitting else "use a smaller model, or bfloat16"
    return f"{text}, {free // MIB} MiB are free; {advice}"
