"""Where a model's files are. The only home of huggingface_hub on the front end's side."""

from __future__ import annotations

import re
from pathlib import Path

from sluicegate.server.errors import CheckpointError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt"]


def locate(source: str, base: Path) -> Path:
    """The local directory of a policy's `source`: a directory (relative to `base`), or a hub id `owner/name`.

    A hub id is downloaded once into the hub's cache; HF_HUB_OFFLINE=1 uses what is there. Raises CheckpointError if
    there is no such directory and the hub cannot deliver it.
    """
    directory = (base / Path(source).expanduser()).resolve()
    if directory.is_dir():
        return directory
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such directory, and not a hub id (owner/name or owner/name@revision)")
    return _download(source)


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except Exception as error:  # network, authentication, disk, offline mode: the hub has no common root for these
        raise CheckpointError(
            f"{source}: not a directory here, and the hub could not deliver it ({type(error).__name__}); "
            "download it elsewhere and name its directory, or check the network and HF_HOME"
        ) from error
