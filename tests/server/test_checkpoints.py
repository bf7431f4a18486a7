from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.server.checkpoints import FILES, locate
from sluicegate.server.errors import CheckpointError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., str]], None]:
    """Puts a function in the place of huggingface_hub's download."""

    def put(snapshot_download: Callable[..., str]) -> None:
        module = types.ModuleType("huggingface_hub")
        module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)

    return put


def test_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "models/small").mkdir(parents=True)

    assert locate(tmp_path / "policies/../models/small", "../models/small") == tmp_path / "models/small"


def test_missing_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for missing in ("nowhere", "file"):
        with pytest.raises(CheckpointError, match=f"^./{missing}: there is no directory {tmp_path}/{missing}$"):
            locate(tmp_path / missing, f"./{missing}")


@pytest.mark.parametrize(
    ("source", "repository", "revision"),
    [
        ("openai-community/gpt2-xl", "openai-community/gpt2-xl", None),
        ("owner/name.v2@refs/pr/1", "owner/name.v2", "refs/pr/1"),
        ("owner/name@0123abc", "owner/name", "0123abc"),
    ],
)
def test_hub_id_is_downloaded_at_its_revision_and_nothing_but_what_is_served(
    hub: Callable[[Callable[..., str]], None], source: str, repository: str, revision: str | None
) -> None:
    asked: list[object] = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.extend((repository, revision, allow_patterns))
        return "/cache/snapshot"

    hub(download)

    assert locate(None, source) == Path("/cache/snapshot")
    assert asked == [repository, revision, FILES]


def test_no_pattern_of_the_download_lets_code_or_pickles_in() -> None:
    names = ["pytorch_model.bin", "model.ckpt", "tf_model.h5", "modeling_gpt2.py", "flax_model.msgpack"]

    assert not [name for name in names if any(Path(name).match(pattern) for pattern in FILES)]


@pytest.mark.parametrize("error", [ConnectionError("no route"), PermissionError("read-only"), RuntimeError("offline")])
def test_hub_that_cannot_deliver_is_an_error_that_says_what_to_do(
    hub: Callable[[Callable[..., str]], None], error: Exception
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    hub(download)

    with pytest.raises(
        CheckpointError, match=rf"could not deliver it \({type(error).__name__}\); check the network"
    ) as refusal:
        locate(None, "owner/name")
    assert refusal.value.__cause__ is error
