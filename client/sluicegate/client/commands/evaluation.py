"""What evaluation commands share: the extra that they need, and the directory that they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sluicegate.client.commands.terminal import note
from sluicegate.client.errors import ConfigurationError

if TYPE_CHECKING:
    from sluicegate.client.evaluation.journal import Journal
    from sluicegate.evidence import Evidence

_Evidence = TypeVar("_Evidence", bound="Evidence")


@contextmanager
def evaluation_extra() -> Iterator[None]:
    """Around the imports of what only an evaluation needs. Raises ConfigurationError that says what to install."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ConfigurationError(f"evaluations need {missing.name}: pip install 'sluicegate[evaluation]'") from None


def tool() -> str:
    """This program and its version."""
    try:
        return f"sluicegate {version('sluicegate')}"
    except PackageNotFoundError:
        return "sluicegate, from a source tree"


class ResultFiles:
    """The directory with each model's journal, evidence and page; it is made. Raises ConfigurationError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise ConfigurationError(f"{directory} cannot be made: {fault.strerror}") from fault

    def journal(self, model: str) -> Path:
        """Where the measurements so far are."""
        return self._file(model, ".journal")

    def evidence(self, model: str) -> Path:
        """Where the evidence is written to."""
        return self._file(model, ".json")

    def write(self, model: str, evidence: _Evidence, page: Callable[[_Evidence, str], str]) -> str:
        """Write the evidence and its page; gives the evidence's digest. Raises ConfigurationError."""
        from sluicegate.evidence import digest, encode

        raw = encode(evidence)
        named = digest(raw)
        for path, content in (
            (self.evidence(model), raw),
            (self._file(model, ".html"), page(evidence, named).encode()),
        ):
            new = path.with_name(path.name + ".new")
            try:
                new.write_bytes(content)
                new.replace(path)
            except OSError as fault:
                raise ConfigurationError(f"{path} cannot be written: {fault.strerror}") from fault
        return named

    @contextmanager
    def resumable(self, journal: Journal) -> Iterator[None]:
        """Says, when it is interrupted or fails, what is kept."""
        try:
            yield
        except BaseException:
            done = len(journal.entries)
            note(f"what was measured so far ({done}) is kept in {self._directory}; the same command goes on from there")
            raise

    def _file(self, model: str, suffix: str) -> Path:
        # A server's ids have neither; but the name is the caller's.
        if "/" in model or model.startswith("."):
            raise ConfigurationError("a model's id has no slash and begins with no dot")
        return self._directory / f"{model}{suffix}"
