from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sluicegate.server.models import LONG_TEXT, HostedModel


class SlowTokenizer:
    """Encodes when it is let; knows how many texts it was at, at most."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.at_once = self.most_at_once = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def encode(self, text: str) -> list[int]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.encoded.append(text[0])
        self.begun.set()
        self.go_on.wait(20)  # else a failure would leave the thread behind, and the process with it
        self.at_once -= 1
        return [len(text)]


def hosted(tokenizer: Any) -> HostedModel:
    return HostedModel(
        id="demo",
        tokenizer=tokenizer,
        parameters=1,
        context_length=1_024,
        vocabulary_size=1_000_000,
        weights_sha256="0" * 64,
        dtype="float32",
        end_of_text=0,
        watermark_id=None,
        long_texts=ThreadPoolExecutor(max_workers=1),
    )


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_long_texts_are_encoded_one_at_a_time_though_their_callers_leave() -> None:
    tokenizer = SlowTokenizer()
    model = hosted(tokenizer)
    first, second, third = (
        asyncio.create_task(model.encode(letter * (LONG_TEXT + number))) for number, letter in enumerate("abc", start=1)
    )
    await asyncio.to_thread(tokenizer.begun.wait)

    await cancelled(first)
    await cancelled(second)
    tokenizer.go_on.set()

    assert await third == [LONG_TEXT + 3]
    assert tokenizer.encoded == ["a", "c"], "the second one's caller had left before its turn"
    assert tokenizer.most_at_once == 1
