"""A replica in a process of its own: reserves and withdraws without end, and says what the store has confirmed.

    python state_process.py URL NAME

Each line of its output is a fact that the store has taken in: `reserved ID TOKENS`, `withdrawn ID`, or `refused`.
"""

from __future__ import annotations

import asyncio
import sys

from state_replicas import LAB

from sluicegate.auth import Quotas
from sluicegate.server.state import ModelTarget, Reservation, Wanted, Withdrawal, open_store

TOKENS_PER_DAY = 1000


async def main(url: str, name: str) -> None:
    store = await open_store(url)
    number = 0
    while True:
        outcome = await store.reserve(LAB, Quotas(output_tokens_per_day=TOKENS_PER_DAY), Wanted(output_tokens=3))
        if isinstance(outcome, Reservation):
            print("reserved", outcome.id, outcome.output_tokens, flush=True)
        else:
            print("refused", flush=True)
        number += 1
        entry = Withdrawal(f"{name}-{number}", ModelTarget("gpt2-1558m"), number, "Misuse.", "operator-1")
        await store.withdraw(entry)
        print("withdrawn", entry.id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
