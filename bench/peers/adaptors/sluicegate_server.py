"""Our server as a whole: its processes, every access check on, and this process as its client over gRPC."""

from __future__ import annotations

import atexit
import tempfile
from asyncio import Runner
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from bench.deployment import Deployment, served
from bench.driving import MODEL, ask_server
from bench.machine import version_of
from bench.peers.serving import NotOffered, Output, Setup, main
from bench.work import Request
from sluicegate.server.demo.errors import ServerNotStarted

PARTNER = "a"


class SluicegateServer:
    """All streams are one partner's, over one connection."""

    def __init__(self, setup: Setup) -> None:
        self._form = setup.format
        deployment = Deployment(
            model=MODEL,
            checkpoint=setup.checkpoint,
            parameters=1,  # what a catalogue would say; nothing here reads it
            slots=setup.slots,
            dtype=setup.format,
            threads=setup.threads,
            partners=(PARTNER,),
        )
        self._runner, self._stack = Runner(), AsyncExitStack()
        atexit.register(self._close)
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        try:
            server = self._runner.run(self._stack.enter_async_context(served(Path(directory) / "server", deployment)))
        except ServerNotStarted as error:
            raise NotOffered(str(error).splitlines()[-1]) from error  # the last line of its log says why
        self._client = self._runner.run(self._stack.enter_async_context(server.client(PARTNER)))

    @property
    def versions(self) -> dict[str, str]:
        return {name: version_of(name) for name in ("sluicegate", "torch", "grpcio")}

    @property
    def form(self) -> str:
        return self._form

    def generate(self, prompts: list[list[int]], outputs: list[int]) -> Output:
        work = [Request(*each) for each in zip(prompts, outputs, strict=True)]
        answers = self._runner.run(ask_server(self._client, MODEL, work))
        return Output([answer.ids for answer in answers], [answer.arrivals for answer in answers])

    def logits(self, texts: list[list[int]], last: int) -> Iterable[bytes]:
        raise NotOffered("see the engine: it is the same")

    def _close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


if __name__ == "__main__":
    main(SluicegateServer)
