"""From rounds to rows: speeds, latencies and ratios of each engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Spread, gaps, paired, quantile, spread
from bench.peers.accuracy import Agreement
from bench.peers.conversation import Round
from bench.work import Lengths, Request, output_tokens, prompt_tokens


@dataclass(frozen=True, slots=True)
class Case:
    """What all engines of one comparison do."""

    batch: int
    lengths: Lengths


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one engine.

    The work is done twice: with one token for each request, which is prefill, and whole. What the whole takes longer is
    decoding. All engines can be asked that way; not all say when a token came.
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float | None  # after prefill; None: the whole took no longer than it, which is noise
    tokens_per_second: float  # of output, prefill included
    first_ms: float  # until every request has its first token
    stream_first_ms: float | None  # median over the streams of the whole work; None: the engine does not stream
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    others_cores: float
    is_disturbed: bool


def measured(work: Sequence[Request], prefill: Round, whole: Round) -> Measured:
    """The figures of one round. The work has requests with more than one token of output."""
    decoded = output_tokens(work) - len(work)
    arrivals = whole.output.arrivals
    first = sorted(stream[0] for stream in arrivals)
    between = gaps(arrivals)
    decoding = whole.seconds - prefill.seconds
    return Measured(
        prefill_tokens_per_second=prompt_tokens(work) / prefill.seconds,
        decode_tokens_per_second=decoded / decoding if decoding > 0 else None,
        tokens_per_second=output_tokens(work) / whole.seconds,
        first_ms=prefill.seconds * 1e3,
        stream_first_ms=quantile(first, 0.5) * 1e3 if first else None,
        gap_p50_ms=quantile(between, 0.5) * 1e3 if between else None,
        gap_p99_ms=quantile(between, 0.99) * 1e3 if between else None,
        others_cores=max(prefill.use.others_cores, whole.use.others_cores),
        is_disturbed=prefill.use.is_disturbed or whole.use.is_disturbed,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One engine in one case: medians over the rounds with their spread, and ours over it, round by round."""

    name: str
    form: str
    batch: int
    lengths: Lengths
    tokens_per_second: Spread
    decode_tokens_per_second: Spread | None
    prefill_tokens_per_second: Spread
    first_ms: Spread
    stream_first_ms: Spread | None
    gap_p50_ms: Spread | None
    gap_p99_ms: Spread | None
    against: str | None  # which of ours it is compared with; None for ours themselves, and where there is none
    ours_over_it: Spread | None  # of tokens per second, prefill included
    ours_over_it_decoding: Spread | None
    disturbed_rounds: int
    agreement: float
    regret: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds for an engine in all its cases. `logit_error`: None where it gives no logits; `note` says why."""

    name: str
    form: str
    versions: dict[str, str]
    load_seconds: float
    peak_mib: int
    idle_cores: float
    logit_error: float | None
    note: str


@dataclass(slots=True)
class Findings:
    """What a run came to. `missing`: the engines that could not be measured, and why."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Facts] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def row(
    engine: tuple[str, str],
    case: Case,
    rounds: Sequence[Measured],
    ours: tuple[str, Sequence[Measured]] | None,
    agreement: Agreement,
) -> Row:
    """`engine`: its name and form; `ours`: what it is compared with, and its rounds in the same order."""

    against, base = ours or (None, ())

    def ratio(name: str) -> Spread | None:
        pairs = [(getattr(our, name), getattr(its, name)) for our, its in zip(base, rounds, strict=False)]
        whole = [pair for pair in pairs if None not in pair]
        return paired(*zip(*whole, strict=True)) if whole else None

    return Row(
        name=engine[0],
        form=engine[1],
        batch=case.batch,
        lengths=case.lengths,
        tokens_per_second=spread([each.tokens_per_second for each in rounds]),
        decode_tokens_per_second=_spread_of_some(rounds, "decode_tokens_per_second"),
        prefill_tokens_per_second=spread([each.prefill_tokens_per_second for each in rounds]),
        first_ms=spread([each.first_ms for each in rounds]),
        stream_first_ms=_spread_of_some(rounds, "stream_first_ms"),
        gap_p50_ms=_spread_of_some(rounds, "gap_p50_ms"),
        gap_p99_ms=_spread_of_some(rounds, "gap_p99_ms"),
        against=against,
        ours_over_it=ratio("tokens_per_second"),
        ours_over_it_decoding=ratio("decode_tokens_per_second"),
        disturbed_rounds=sum(each.is_disturbed for each in rounds),
        agreement=agreement.share,
        regret=agreement.regret,
    )


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: each round begins with the next, so that no engine always follows the same."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def _spread_of_some(rounds: Sequence[Measured], name: str) -> Spread | None:
    values = [value for each in rounds if (value := getattr(each, name)) is not None]
    return spread(values) if values else None
