"""OpenVINO GenAI as it comes: its keys and values in 8 bits, whatever inference's format is."""

from __future__ import annotations

from bench.peers.adaptors.openvino_genai import CACHES, OpenVinoGenAi
from bench.peers.serving import main


class OpenVinoGenAiU8Cache(OpenVinoGenAi):
    """Reads half the bytes of a bfloat16 cache, and is the less exact for it."""

    caches = dict.fromkeys(CACHES, "u8")


if __name__ == "__main__":
    main(OpenVinoGenAiU8Cache)
