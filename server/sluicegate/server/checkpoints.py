"""Where a model's files are. The only home of huggingface_hub on the front end's side."""

from __future__ import annotations

from pathlib import Path

from sluicegate.server.errors import CheckpointError

FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt"]


def locate(directory: Path | None, source: str) -> Path:
    """The directory that the policy names, or else the copy of its hub id: `owner/name` or `owner/name@revision`.

    A hub id is downloaded once into the hub's cache; HF_HUB_OFFLINE=1 uses what is there. Raises CheckpointError if
    it cannot be had.
    """
    if directory is None:
        return _download(source)
    found = directory.resolve()
    if not found.is_dir():
        raise CheckpointError(f"{source}: there is no directory {found}")
    return found


def checkpoint_bytes(directory: Path) -> int:
    """Size of the weights in a model's directory, on the disk; 0 if there are none."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except Exception as error:  # network, authentication, disk, offline mode: the hub has no common root for these
        raise CheckpointError(
            f"{source}: the hub could not deliver it ({type(error).__name__}); check the network and HF_HOME, or "
            "download it elsewhere and name its directory in the policy"
        ) from error
