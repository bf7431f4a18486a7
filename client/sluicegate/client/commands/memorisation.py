"""`sluicegate memorisation run`: what a model recites of a corpus, as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.evaluation import ResultFiles, evaluation_extra, tool
from sluicegate.client.commands.exits import SEE, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import progress, write, write_table
from sluicegate.client.parallel import patiently

if TYPE_CHECKING:
    from sluicegate.client.evaluation.corpus import Corpus
    from sluicegate.client.evaluation.matching import Output
    from sluicegate.client.requests import GenerationConfig, Prompt
    from sluicegate.client.results import Generation, Token
    from sluicegate.evidence import MemorisationEvidence


class Prompts(StrEnum):
    """What samples are asked with."""

    NONE = "none"
    CORPUS = "corpus"


_TOP_K = 40
"""Of samples without a prompt: that of Carlini et al. 2021, section 4.1."""


def build_memorisation() -> typer.Typer:
    """The group."""
    app = typer.Typer(no_args_is_help=True, help="Check what a model recites of a corpus, as evidence.")
    app.callback()(_memorisation)
    app.command("run", epilog=SEE)(run)
    return app


def _memorisation() -> None:
    """Check what a model recites of a corpus, as evidence."""


@with_option_groups
@reported()
def run(
    *,
    model: Annotated[str, typer.Option(help="As `sluicegate models` shows it.")],
    corpus: Annotated[Path, typer.Option(metavar="DIR", help="Texts to look for, UTF-8; all files below it.")],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="For MODEL.json, MODEL.html and the journal; goes on where it stopped.")
    ],
    prompts: Annotated[
        Prompts, typer.Option(help="none: what can be extracted; corpus: what is recited when its beginning is shown.")
    ] = Prompts.NONE,
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="Outputs to draw.")] = 1_000,
    max_output_tokens: Annotated[int, typer.Option(min=50, max=4_096, help="Most tokens of an output.")] = 256,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=1_000, help="Of each prompt from the corpus.")] = 50,
    seed: Annotated[int, typer.Option(min=0, max=2**52, help="Another one draws other samples.")] = 0,
    show: Annotated[bool, typer.Option("--show", help="Also write the recited text to the terminal.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at the same time.")] = 8,
    max_wait: Annotated[float, typer.Option(min=0, help="Longest wait that a quota may ask for, in seconds.")] = 120.0,
    purpose: Annotated[str, typer.Option(help="The purpose, where an agreement lists some.")] = "",
    priority: Annotated[int, typer.Option(help="Below 0: behind your other calls.")] = 0,
    connection: Connection,
) -> None:
    """Sample outputs, and look for each in the corpus: passages of 50 tokens or more that stand there to the letter.

    Needs the scopes generate:MODEL and logprobs:MODEL. When it is interrupted, the same command goes on. The journal
    holds the outputs; the evidence and its page hold no text.
    """
    with evaluation_extra():
        from sluicegate.client.evaluation.corpus import open_corpus
        from sluicegate.client.evaluation.journal import Journal
        from sluicegate.client.evaluation.memorisation import Check, run_facts
        from sluicegate.client.evaluation.pages import memorisation_page
        from sluicegate.client.evaluation.prompts import from_corpus, without_prompt
        from sluicegate.client.evaluation.subject import ModelUnderTest
        from sluicegate.evidence.memorisation import Sampling

    texts = open_corpus(corpus)
    is_shown = prompts is Prompts.CORPUS
    sampling = Sampling(
        prompts=prompts.value,
        prompt_tokens=prompt_tokens if is_shown else 0,
        samples=samples,
        max_output_tokens=max_output_tokens,
        temperature=0.0 if is_shown else 1.0,
        top_k=0 if is_shown else _TOP_K,
        seed=seed,
    )
    results = ResultFiles(output)

    async def sampled() -> Check:
        async with connection.client() as client:

            async def split(text: str) -> Sequence[Token]:
                return await patiently(lambda: client.tokenize(model, text, purpose=purpose), max_wait)

            async def ask(prompt: Prompt, config: GenerationConfig) -> Generation:
                return await patiently(
                    lambda: client.generate(
                        model, prompt, config, include_tokens=True, purpose=purpose, priority=priority
                    ),
                    max_wait,
                )

            subject = ModelUnderTest.of(await client.model(model))
            with Journal(results.journal(model), run_facts(texts, sampling, subject)) as journal:
                check = Check(texts, sampling, subject, journal)
                question = from_corpus(texts, split, sampling) if is_shown else await without_prompt(split)
                with results.resumable(journal), progress(samples, len(check.done)) as advance:
                    await check.sample(question, ask, advance, concurrency)
        return check

    check = asyncio.run(sampled())
    with progress(texts.bytes, 0) as advance:
        evidence = check.evidence(tool(), advance)
    digest = results.write(model, evidence, memorisation_page)
    _show(evidence, texts)
    if show:
        _show_texts(evidence, check.outputs())
    write(f"{results.evidence(model)}\nsha256 {digest}\n")


def _show(evidence: MemorisationEvidence, corpus: Corpus) -> None:
    paths = {file.sha256: str(file.path) for file in corpus.files}
    if evidence.matches:
        write_table(
            ("sample", "tokens", "file", "offset", "in files", "goes on from prompt", "perplexity", "by zlib"),
            [
                (
                    str(each.sample),
                    str(each.tokens),
                    paths[each.file_sha256],
                    str(each.offset),
                    str(each.files),
                    "yes" if each.continues_prompt else "",
                    f"{each.perplexity:.2f}",
                    f"{each.rank_by_zlib_ratio} of {evidence.distinct}",
                )
                for each in evidence.matches
            ],
        )
    found = evidence.interval
    write(
        f"{evidence.matched} of {evidence.sampling.samples} outputs have {evidence.least_tokens} tokens or more of the "
        f"corpus: {evidence.rate:.2%}, 95 % interval {found.low:.2%} to {found.high:.2%}\n"
    )


def _show_texts(evidence: MemorisationEvidence, outputs: Sequence[Output]) -> None:
    for each in evidence.matches:
        write(f"--- sample {each.sample} ---\n{outputs[each.sample].content.decode('utf-8', 'replace')}\n")
