"""Writes an audit log until it is killed, and prints the id of each call whose opening is durable."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from audit_logs import IDENTITY, KEY, closing, opening

from sluicegate.server.audit import AuditLog, Limits, open_audit_log


async def _caller(log: AuditLog, name: str) -> None:
    for n in itertools.count():
        call = f"{name}-{n}"
        await log.open_call(opening(call))
        sys.stdout.write(f"{call}\n")
        sys.stdout.flush()
        log.close_call(closing(call))


async def _main(directory: Path, name: str) -> None:
    async with open_audit_log(directory, IDENTITY, KEY, limits=Limits(file_bytes=20_000)) as log:
        await asyncio.gather(*(_caller(log, f"{name}-{n}") for n in range(8)))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
