"""Build the kernels ahead, so that no start has to: for an image, or for a machine without a compiler."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sluicegate.server.gpt2.kernels.build import BUILT, KernelsUnavailable, find_or_build
from sluicegate.server.gpt2.kernels.processor import TIERS, usable_tiers


def main() -> int:
    """Build, print the paths; 1 if a tier cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m sluicegate.server.gpt2.kernels", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=BUILT, help="where to (the package itself)")
    parser.add_argument("--all", action="store_true", help="for every processor, not just for this machine's")
    arguments = parser.parse_args()
    tiers = TIERS if arguments.all else usable_tiers()[:1]
    if not tiers:
        sys.stderr.write("this processor has no AVX2: torch's own operators serve it\n")
        return 1
    # Whoever runs the server reads it: by itself it would be made for this user alone, as a cache is.
    arguments.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for tier in tiers:
        try:
            sys.stdout.write(f"{find_or_build(tier, arguments.directory)}\n")
        except KernelsUnavailable as error:
            sys.stderr.write(f"{tier.name}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
