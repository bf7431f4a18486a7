"""The options that say how tokens are drawn: one for each field of GenerationConfig."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sluicegate.client.errors import ConfigurationError
from sluicegate.client.requests import GenerationConfig


def _option(*flags: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(*flags, help=text, metavar=metavar, rich_help_panel="Sampling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn and when to stop. What is left out is the server's default; it also checks bounds."""

    max_output_tokens: Annotated[
        int | None, _option("--max-output-tokens", "-n", text="Most tokens for each candidate")
    ] = None
    temperature: Annotated[float | None, _option("--temperature", "-t", text="0 takes the most likely token")] = None
    top_k: Annotated[int | None, _option("--top-k", text="Keep the k most likely tokens")] = None
    top_p: Annotated[float | None, _option("--top-p", text="Keep the most likely tokens up to this mass")] = None
    min_p: Annotated[float | None, _option("--min-p", text="Keep tokens this close to the most likely one")] = None
    typical_p: Annotated[float | None, _option("--typical-p", text="Keep the most typical tokens, up to this mass")] = (
        None
    )
    repetition_penalty: Annotated[
        float | None, _option("--repetition-penalty", text="Weakens what prompt or output have; 1 is off")
    ] = None
    presence_penalty: Annotated[
        float | None, _option("--presence-penalty", text="Subtracted for a token that the output has")
    ] = None
    frequency_penalty: Annotated[
        float | None, _option("--frequency-penalty", text="Subtracted for each time that it has it")
    ] = None
    seed: Annotated[int | None, _option("--seed", text="Repeats a generation exactly")] = None
    candidates: Annotated[int | None, _option("--candidates", text="Independent continuations")] = None
    stop: Annotated[list[str] | None, _option("--stop", text="Text that ends a candidate; repeatable")] = None
    stop_token: Annotated[
        list[int] | None, _option("--stop-token", text="Token id that ends a candidate; repeatable")
    ] = None
    logit_bias: Annotated[
        list[str] | None, _option("--logit-bias", text="Added to a token's logit; repeatable", metavar="ID=BIAS")
    ] = None
    ignore_eos: Annotated[bool, _option("--ignore-eos", text="Treat end-of-text as an ordinary token")] = False
    response_logprobs: Annotated[
        bool, _option("--response-logprobs", text="Also log-probabilities (with JSON output)")
    ] = False
    logprobs: Annotated[
        int | None, _option("--logprobs", text="And those of this many alternatives; implies --response-logprobs")
    ] = None

    def config(self) -> GenerationConfig:
        """The same as the client takes it. Raises ConfigurationError for a bias that is none."""
        return GenerationConfig(
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            typical_p=self.typical_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            candidate_count=self.candidates,
            stop_sequences=tuple(self.stop or ()),
            stop_token_ids=tuple(self.stop_token or ()),
            logit_bias=dict(_bias(each) for each in self.logit_bias or ()),
            ignore_eos=self.ignore_eos or None,
            response_logprobs=(self.response_logprobs or self.logprobs is not None) or None,
            logprobs=self.logprobs,
        )


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise ConfigurationError(f"--logit-bias {text!r} is not ID=BIAS, as 50256=-100") from None
