"""Compile the kernels, once for each processor and version of their source.

The library is what the process will run, so it is only taken from a directory that nobody else can write to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from sluicegate.server.gpt2.kernels.processor import Tier

SOURCE = Path(__file__).parent / "source"
UNIT = SOURCE / "forward.cpp"
BUILT = Path(__file__).parent / "built"  # what was built ahead, in an image
COMPILERS = ("c++", "g++")
OPTIONS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-mprefer-vector-width=512", "-Wno-psabi"),
    *("-shared", "-fPIC", "-pthread", "-fvisibility=hidden"),
)
LIMIT_SECONDS = 300  # a slow, busy machine takes a minute


class KernelsUnavailable(Exception):
    """The kernels cannot be had here; the text says why. torch's own operators do the work then, more slowly."""


def find_or_build(tier: Tier, directory: Path | None = None) -> Path:
    """The shared library for a tier: built ahead, built before, or built now (some seconds).

    `directory`: where it is kept; by default the user's cache directory. Raises KernelsUnavailable.
    """
    name = f"{tier.name}-{_digest(tier)}.so"
    if directory is None and (ahead := BUILT / name).exists() and _is_ours(BUILT) and _is_ours(ahead):
        return ahead
    directory = _prepare(_cache_directory() if directory is None else directory)
    path = directory / name
    if not path.exists():
        _compile(tier, path)
    if not _is_ours(path):
        raise KernelsUnavailable(f"{path} could have been written by others; remove it")
    return path


def _digest(tier: Tier) -> str:
    """Of all that the library is made of but the compiler."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("\0".join((*OPTIONS, *tier.options)).encode())
    return digest.hexdigest()[:16]


def _cache_directory() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise KernelsUnavailable(f"no cache directory: {error}") from error
    _prepare(base / "sluicegate")  # whoever could write there could put another directory in the place of ours
    return base / "sluicegate" / "kernels"


def _prepare(directory: Path) -> Path:
    """Make the directory, for this user alone."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise KernelsUnavailable(f"{directory} cannot be made: {error}") from error
    if not _is_ours(directory):
        raise KernelsUnavailable(f"{directory} can be written by others; set its mode to 0700")
    return directory


def _is_ours(path: Path) -> bool:
    """Whether only this user and root can change it."""
    status = path.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compile(tier: Tier, path: Path) -> None:
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise KernelsUnavailable("no C++ compiler is installed (Debian: apt install g++)")
    try:
        with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as place:
            built = Path(place) / path.name
            command = [compiler, *OPTIONS, *tier.options, str(UNIT), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)  # noqa: S603 -- nothing of it comes from outside
            if done.returncode:
                first = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
                raise KernelsUnavailable(f"{compiler} failed: {first[:300]}")
            built.chmod(0o644)
            built.replace(path)  # whoever builds at the same time builds the same
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"{path} could not be built: {error}") from error
