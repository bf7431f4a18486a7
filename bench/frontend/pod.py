"""The front end as `sluicegate serve` runs it, over the engine of engine.py: `python -m bench.frontend.pod`.

It ends at SIGTERM. With `--profile FILE` it notes every millisecond of its processor time which functions the event
loop is in, and leaves the counts in the file.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

from sluicegate.server.app import running
from sluicegate.server.config import Settings
from sluicegate.server.engine.process import process_launcher
from sluicegate.server.observe.log import configure
from sluicegate.server.settings_file import load_settings

SAMPLE_SECONDS = 0.001


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontend.pod")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--step-milliseconds", type=float, default=0.0, help="of the engine's steps (%(default)s)")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    settings = load_settings(options.config)
    configure(settings.log.level, settings.log.format)
    asyncio.run(serve(settings, options.step_milliseconds, options.profile))
    return 0


async def serve(settings: Settings, step_milliseconds: float, profile: Path | None) -> None:
    """As commands.serve does, but for the engine, the profile and the drain."""
    launch = process_launcher(module="bench.frontend.engine", arguments=["--step-milliseconds", str(step_milliseconds)])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running(settings, launch):
        gc.collect()
        gc.freeze()
        if profile is None:
            await stop.wait()
        else:
            with sampled(profile):
                await stop.wait()


@contextmanager
def sampled(file: Path) -> Iterator[None]:
    """Note every millisecond of processor time where the main thread is; write the counts as JSON at the end.

    A sample counts for the innermost Python function (`own`), what C does for it included, and once for each
    function that is under way (`total`). Processor time is the process': what other threads use while the event loop
    waits counts for its `select`.
    """
    own, total = Counter[CodeType](), Counter[CodeType]()

    def sample(_signal: int, frame: FrameType | None) -> None:
        assert frame is not None
        own[frame.f_code] += 1
        stack = set[CodeType]()
        while frame is not None:
            stack.add(frame.f_code)
            frame = frame.f_back
        total.update(stack)

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        samples = own.total()
        shares = {"own": _shares(own, samples, 60), "total": _shares(total, samples, 120)}
        file.write_text(json.dumps({"samples": samples, **shares}))


def _shares(counted: Counter[CodeType], samples: int, most: int) -> dict[str, float]:
    """Of the samples, by the function's file and name, the greatest first."""
    return {
        f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}": round(count / samples, 4)
        for code, count in counted.most_common(most)
    }


if __name__ == "__main__":
    sys.exit(main())
