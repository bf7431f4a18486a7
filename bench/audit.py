"""What the audit log costs: entries made durable a second, and how long a call waits for its opening.

    python -m bench.audit                       into a directory of the temporary file system
    python -m bench.audit --directory /var/tmp --json

Each of `--callers` opens a call, waits until it is durable, closes it, and begins again. The disk decides: run it where
the log will be. Verification of what was written is timed too. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import quantile
from sluicegate.auth import Audience
from sluicegate.server.audit import AuditLog, Closing, Decision, Identity, Opening, Verification, open_audit_log


@dataclass(frozen=True, slots=True)
class Result:
    """One number of callers at once."""

    callers: int
    entries_per_second: float
    open_p50_ms: float
    open_p99_ms: float
    verified_entries_per_second: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--calls", type=int, default=5000, help="of all callers together")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = [asyncio.run(measured(callers, arguments.calls, arguments.directory)) for callers in arguments.callers]
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return 0
    print("callers   entries/s   open p50 ms   open p99 ms   verified entries/s")
    for each in results:
        print(
            f"{each.callers:>7}  {each.entries_per_second:>10.0f}  {each.open_p50_ms:>12.2f}  {each.open_p99_ms:>12.2f}"
            f"  {each.verified_entries_per_second:>19.0f}"
        )
    return 0


async def measured(callers: int, calls: int, parent: Path | None) -> Result:
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        directory = Path(temporary) / "log"
        waits: list[float] = []
        async with open_audit_log(directory, Identity("bench", "bench"), Ed25519PrivateKey.generate()) as log:
            start = time.perf_counter()
            await asyncio.gather(*(caller(log, f"{n}", max(1, calls // callers), waits) for n in range(callers)))
            wrote = time.perf_counter() - start
        verification = Verification([directory])
        start = time.perf_counter()
        verification.read_all()
        verified = time.perf_counter() - start
        waits.sort()
        return Result(
            callers=callers,
            entries_per_second=2 * len(waits) / wrote,
            open_p50_ms=quantile(waits, 0.5) * 1e3,
            open_p99_ms=quantile(waits, 0.99) * 1e3,
            verified_entries_per_second=verification.reports[0].entries / verified,
        )


async def caller(log: AuditLog, name: str, calls: int, waits: list[float]) -> None:
    for n in range(calls):
        start = time.perf_counter()
        await log.open_call(opening(f"{name}-{n}"))
        waits.append(time.perf_counter() - start)
        log.close_call(Closing(call=f"{name}-{n}", emitted_tokens=12, finish="STOP", code="OK", duration_ms=250))


def opening(call: str) -> Opening:
    """With every field filled, as a partner's call has it."""
    return Opening(
        call=call,
        decision=Decision.ALLOWED,
        code="OK",
        policy_revision="5" * 64,
        stage="s2",
        audience=Audience.PARTNER,
        partner="example-lab",
        client="c" * 32,
        subject="d" * 32,
        jti_hash="e" * 32,
        kid="2026-11-a",
        scopes=("generate:gpt2-774m",),
        purpose="human-susceptibility",
        action="generate",
        model="gpt2-774m",
        token_terms_met=("binding", "acr"),
        network=0,
        reserved_tokens=512,
    )


if __name__ == "__main__":
    sys.exit(main())
