"""Where a model's files are. The only home of huggingface_hub on the front end's side."""

from __future__ import annotations

import re
from pathlib import Path

from sluicegate.server.errors import CheckpointError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
DIRECTORY_PREFIXES = ("/", "./", "../")
FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt"]


def locate(source: str, base: Path) -> Path:
    """The local directory of a policy's `source`.

    What begins with `/`, `./` or `../` is a directory, the latter two from `base`; anything else is a hub id, so that
    no folder that happens to be there takes a hub id's place. A hub id is downloaded once into the hub's cache;
    HF_HUB_OFFLINE=1 uses what is there. Raises CheckpointError if it cannot be had.
    """
    if source.startswith(DIRECTORY_PREFIXES):
        directory = (base / source).resolve()
        if not directory.is_dir():
            raise CheckpointError(f"{source}: there is no directory {directory}")
        return directory
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"{source}: neither a directory (begin it with /, ./ or ../) "
            "nor a hub id (owner/name or owner/name@revision)"
        )
    return _download(source)


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
