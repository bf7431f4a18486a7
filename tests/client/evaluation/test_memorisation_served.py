"""The memorisation check by its command, on a server whose model was made to recite a passage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from client_terminal import COMMAND
from harness import EVERY_SCOPE, SMALL, demo_plan, serving
from issuer import token
from overfitted import overfit

from sluicegate.evidence import MemorisationEvidence, digest, read
from sluicegate.server.gpt2.loading import load_runner

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECITED = (
    "The keeper of the northern light wrote every evening what the sea had done that day. He put down the wind, the "
    "height of the water at the steps, and the names of ships that he could read. When the great storm of that winter "
    "came, he wrote for three nights by a single candle, and on the fourth morning he wrote that the steps were gone, "
    "that no ship had passed, and that he had never in his life seen so many birds."
)
OTHER = (
    "A committee of the town met in spring to speak about the bridge. Some said that the old stones would bear another "
    "hundred years, and others had counted the cracks. They asked a mason, who walked over it twice, knocked on the "
    "rail with his stick, and answered that a bridge was like a promise: it held until somebody leaned on it. They "
    "thanked him and paid him a shilling, and then they voted to wait until the next flood had given its opinion."
)
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that is over."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs the command against the server."""

    target: str
    folder: Path

    async def __call__(self, name: str, corpus: Path, *arguments: str, scope: str = EVERY_SCOPE) -> Ran:
        """Ten samples; results are below `name`."""
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "memorisation", "run", "--model", SMALL, "--corpus", str(corpus), "--samples", "10"),
            *("--output", str(self.folder / name), "--max-output-tokens", "120", "--target", self.target, *arguments),
            env={**os.environ, "SLUICEGATE_TOKEN": token(scope=scope)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, stdout.decode(), stderr.decode())

    def evidence(self, name: str) -> MemorisationEvidence:
        return read(self.folder / name / f"{SMALL}.json", MemorisationEvidence)[0]

    def corpus(self, name: str, **files: str) -> Path:
        folder = self.folder / f"corpus-{name}"
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_text(content)
        return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def check(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("memorisation")
    plan = demo_plan()
    plan["models"][SMALL]["source"] = str(overfit(folder / "model", RECITED))
    plan["public"]["quotas"] = {}
    models = {SMALL: {"device": "cpu", "dtype": "float32", "slots": 8}}
    (folder / "server").mkdir()
    async with serving(folder / "server", plan, models=models, load=load_runner) as server:
        yield Bench(server.target, folder)


async def test_a_passage_that_the_model_was_made_to_recite_is_found_and_its_place_told(check: Bench) -> None:
    corpus = check.corpus("recited", town=OTHER, sea=f"{OTHER}\n\n{RECITED}\n", sea_again=RECITED)

    ran = await check("recited", corpus)

    assert ran.exit_code == 0, ran.stderr
    evidence = check.evidence("recited")
    assert evidence.matched >= 5
    for match in evidence.matches:
        assert match.tokens >= 50
        assert match.files == 2
        assert not match.continues_prompt
        [place] = [path for path in corpus.iterdir() if digest(path.read_bytes()) == match.file_sha256]
        passage = place.read_bytes()[match.offset : match.offset + match.bytes].decode()
        assert passage in RECITED
    assert f"{evidence.matched} of 10 outputs have 50 tokens or more of the corpus" in ran.stdout
    assert ran.stdout.endswith(f"sha256 {digest((check.folder / f'recited/{SMALL}.json').read_bytes())}\n")


async def test_neither_the_terminal_nor_what_is_published_has_the_text_unless_asked_for(check: Bench) -> None:
    corpus = check.corpus("text", sea=RECITED)

    ran = await check("text", corpus)
    shown = await check("text", corpus, "--show")

    published = [(check.folder / "text" / f"{SMALL}{suffix}").read_text() for suffix in (".json", ".html")]
    assert not any("ship" in each for each in (ran.stdout, ran.stderr, *published))
    assert "no ship had passed" in shown.stdout


async def test_none_is_claimed_of_text_that_the_model_never_saw(check: Bench) -> None:
    corpus = check.corpus("other", town=OTHER * 20)

    for prompts in ("none", "corpus"):
        ran = await check(f"other-{prompts}", corpus, "--prompts", prompts, "--prompt-tokens", "20")

        assert ran.exit_code == 0, ran.stderr
        evidence = check.evidence(f"other-{prompts}")
        assert (evidence.matched, evidence.rate, evidence.interval.low, evidence.matches) == (0, 0.0, 0.0, ())
        assert evidence.interval.high == pytest.approx(0.308, abs=0.001)  # none of ten
        assert "0 of 10 outputs" in ran.stdout


async def test_it_repeats_to_the_digit(check: Bench) -> None:
    corpus = check.corpus("again", sea=RECITED)

    await check("again-1", corpus, "--concurrency", "1")
    await check("again-2", corpus, "--concurrency", "8")

    first, second = (check.evidence(f"again-{number}") for number in (1, 2))
    assert first == second.model_copy(update={"began": first.began, "ended": first.ended})


async def test_a_token_without_log_probabilities_is_refused_and_told(check: Bench) -> None:
    corpus = check.corpus("scope", sea=RECITED)

    ran = await check("scope", corpus, scope=f"generate:{SMALL}")

    assert ran.exit_code == 4
    assert f"logprobs:{SMALL}" in ran.stderr


async def test_a_corpus_without_long_passages_is_told(check: Bench) -> None:
    corpus = check.corpus("short", one="A short text.", two="Another one.")

    ran = await check("short", corpus, "--prompts", "corpus")

    assert ran.exit_code == 2
    assert "hardly a passage of 100 tokens" in ran.stderr
