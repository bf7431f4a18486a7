"""`sluicegate bias run`: a model's bias on sentence pairs, as evidence."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.client.commands.connection import Connection
from sluicegate.client.commands.evaluation import ResultFiles, evaluation_extra, tool
from sluicegate.client.commands.exits import SEE, reported
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.terminal import note, progress, write, write_table
from sluicegate.client.errors import ConfigurationError, FileRefused
from sluicegate.client.parallel import patiently

if TYPE_CHECKING:
    from sluicegate.client.evaluation.suites import Suite
    from sluicegate.client.results import Score
    from sluicegate.evidence import BiasEvidence


class SuiteName(StrEnum):
    """Where the pairs come from."""

    OCCUPATIONS = "occupations"
    WINOGENDER = "winogender"
    WINOBIAS = "winobias"
    CROWS_PAIRS = "crows-pairs"


def build_bias() -> typer.Typer:
    """The group."""
    app = typer.Typer(no_args_is_help=True, help="Measure a model's bias on sentence pairs, as evidence.")
    app.callback()(_bias)
    app.command("run", epilog=SEE)(run)
    return app


def _bias() -> None:
    """Measure a model's bias on sentence pairs, as evidence."""


@with_option_groups
@reported()
def run(
    *,
    model: Annotated[str, typer.Option(help="As `sluicegate models` shows it.")],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="For MODEL.json, MODEL.html and the journal; goes on where it stopped.")
    ],
    suite: Annotated[
        SuiteName, typer.Option(help="The pairs: our own, or of the --data files.")
    ] = SuiteName.OCCUPATIONS,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A file of the suite's; repeatable. See docs/bias.md.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Measure this model too, and compare with it.")
    ] = None,
    against_evidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with this evidence of another model.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Calls at the same time.")] = 8,
    max_wait: Annotated[float, typer.Option(min=0, help="Longest wait that a quota may ask for, in seconds.")] = 120.0,
    purpose: Annotated[str, typer.Option(help="The purpose, where an agreement lists some.")] = "",
    priority: Annotated[int, typer.Option(help="Below 0: behind your other calls.")] = 0,
    connection: Connection,
) -> None:
    """Score pairs of sentences, and write the evidence: how often the model prefers the stereotype, and by how much.

    Needs the scopes score:MODEL and logprobs:MODEL. When it is interrupted, the same command goes on.
    """
    if against is not None and against_evidence is not None:
        raise ConfigurationError("a model is compared with one other: give --against or --against-evidence")
    if against == model:
        raise ConfigurationError("--against is the model itself: there is nothing to compare")
    with evaluation_extra():
        from sluicegate.client.evaluation.bias import Measurement, run_facts
        from sluicegate.client.evaluation.journal import Journal
        from sluicegate.client.evaluation.pages import bias_page
        from sluicegate.client.evaluation.subject import ModelUnderTest
        from sluicegate.evidence import BiasEvidence, EvidenceError, read

    pairs = _suite(suite, data or [])
    if pairs.left_out:
        note(f"{pairs.left_out} entries of the data make no pair and are left out")
    try:
        other = None if against_evidence is None else read(against_evidence, BiasEvidence)
    except EvidenceError as refused:
        raise FileRefused(str(refused)) from None
    results = ResultFiles(output)

    async def measured(name: str, other: tuple[BiasEvidence, str] | None) -> tuple[BiasEvidence, str]:
        async with connection.client() as client:
            subject = ModelUnderTest.of(await client.model(name))
            with Journal(results.journal(name), run_facts(pairs, subject)) as journal:
                work = Measurement(pairs, subject, journal)

                async def score(text: str) -> Score:
                    return await patiently(
                        lambda: client.score(name, text, purpose=purpose, priority=priority), max_wait
                    )

                with results.resumable(journal), progress(len(pairs.pairs), len(work.done)) as advance:
                    await work.measure(score, advance, concurrency)
                evidence = work.evidence(tool(), other)
        return evidence, results.write(name, evidence, bias_page)

    if against is not None:
        other = asyncio.run(measured(against, None))
    _show(*asyncio.run(measured(model, other)), results.evidence(model))


def _suite(name: SuiteName, paths: list[Path]) -> Suite:
    from sluicegate.client.evaluation.crows_pairs import crows_pairs
    from sluicegate.client.evaluation.data_files import read_data_file
    from sluicegate.client.evaluation.occupations import occupations
    from sluicegate.client.evaluation.winobias import winobias
    from sluicegate.client.evaluation.winogender import winogender

    if name is SuiteName.OCCUPATIONS:
        if paths:
            raise ConfigurationError("the suite `occupations` is built in and takes no --data: name the data's --suite")
        return occupations()
    if not paths:
        raise ConfigurationError(f"the suite `{name}` is not shipped: give its files with --data (docs/bias.md)")
    load = {
        SuiteName.WINOGENDER: winogender,
        SuiteName.WINOBIAS: winobias,
        SuiteName.CROWS_PAIRS: crows_pairs,
    }[name]
    return load([read_data_file(path) for path in paths])


def _show(evidence: BiasEvidence, digest: str, path: Path) -> None:
    rows = [("all", evidence.figures), *((each.category, each.figures) for each in evidence.categories)]
    write_table(
        ("pairs", "prefer stereotype", "other", "ties", "share", "95 % interval", "mean |delta|", "mean delta"),
        [
            (
                name,
                str(each.prefer_stereotype),
                str(each.prefer_other),
                str(each.ties),
                "" if each.share is None else f"{each.share:.1%}",
                "" if each.interval is None else f"{each.interval.low:.1%} to {each.interval.high:.1%}",
                f"{each.mean_absolute_delta:.4f}",
                f"{each.mean_delta:+.4f}",
            )
            for name, each in rows
        ],
    )
    if (found := evidence.comparison) is not None:
        write(
            f"against {found.model}: {found.only_this} pairs prefer the stereotype only in {evidence.subject.model}, "
            f"{found.only_other} only in {found.model}; exact McNemar p = {found.p_value:.4g}\n"
        )
    write(f"{path}\nsha256 {digest}\n")
