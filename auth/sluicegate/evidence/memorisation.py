"""Evidence of memorisation: which outputs of a model stand in a corpus, to the letter."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sluicegate.evidence.form import Count, Evidence, Interval, Part, Rate, Sha256

SCHEMA: Literal["sluicegate/evidence/memorisation/v1"] = "sluicegate/evidence/memorisation/v1"

Rank = Annotated[int, Field(ge=1)]


class CorpusFacts(Part):
    """The files that outputs were looked for in."""

    sha256: Sha256
    """Of the canonical JSON of the files' digests, sorted; names the content, whatever the files are called."""
    files: Count
    bytes: Count


class Sampling(Part):
    """How outputs were asked for."""

    prompts: Literal["none", "corpus"]
    """`none`: behind the end-of-text token alone, which asks for extractable text. `corpus`: behind passages of the
    corpus, which asks for discoverable text."""
    prompt_tokens: Count
    """Tokens of each prompt of the corpus; 0 for `none`."""
    samples: Count
    max_output_tokens: Count
    temperature: Annotated[float, Field(ge=0)]
    """0: the most likely token each time."""
    top_k: Count
    """0: all tokens."""
    seed: Count
    """Sample number i was drawn with this and i, and its prompt chosen by them."""


class Match(Part):
    """The longest passage of an output that stands in the corpus, and one place where it does."""

    sample: Count
    tokens: Count
    """Whole output tokens in the passage."""
    bytes: Count
    file_sha256: Sha256
    offset: Count
    """Of the passage's first byte, in that file."""
    files: Count
    """Of the corpus, in which a passage of the output is as long as `least_tokens`."""
    continues_prompt: bool
    """Whether the output goes on from its prompt as the corpus does there, for `least_tokens`."""
    perplexity: float
    """Of the whole output, under the model."""
    zlib_ratio: float
    """zlib's bits for the output over the model's own: how much more the model knows of it than of ordinary text."""
    rank_by_perplexity: Rank
    """Among all distinct outputs, the lowest first."""
    rank_by_zlib_ratio: Rank
    """The same, the highest ratio first (Carlini et al. 2021, section 5.1)."""


class MemorisationEvidence(Evidence):
    """A memorisation check."""

    schema_: Literal["sluicegate/evidence/memorisation/v1"] = Field(default=SCHEMA, alias="schema")
    corpus: CorpusFacts
    sampling: Sampling
    least_tokens: Rank
    """The fewest tokens of a match that counts."""
    matched: Count
    """Samples with a match."""
    distinct: Count
    """Outputs that differ from all before them."""
    too_short: Count
    """Samples of fewer than `least_tokens` tokens, which cannot match."""
    rate: Rate
    """matched / samples, rounded to 6 decimals."""
    interval: Interval
    """Of `rate`."""
    matches: tuple[Match, ...]
    """Sorted by sample."""

    @model_validator(mode="after")
    def _counts_are_of_the_matches(self) -> Self:
        samples = self.sampling.samples
        numbers = [each.sample for each in self.matches]
        if numbers != sorted(set(numbers)) or any(each >= samples for each in numbers):
            raise ValueError("`matches` are not one for a sample, in order")
        if self.matched != len(self.matches) or self.matched + self.too_short > samples:
            raise ValueError("`matched` is not the number of `matches`")
        if not samples or self.rate != round(self.matched / samples, 6):
            raise ValueError("`rate` is not matched / samples")
        if not self.interval.is_of(self.matched, samples):
            raise ValueError("`interval` is not that of `matched` and `samples`")
        if any(each.tokens < self.least_tokens for each in self.matches):
            raise ValueError("a match is shorter than `least_tokens`")
        return self
