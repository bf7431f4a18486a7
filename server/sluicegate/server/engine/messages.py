"""Messages between a front end and an engine process.

Encoded with msgspec's msgpack, one array per message, its type in a tag. Nothing is ever pickled, so a
damaged or hostile peer can at worst produce a `msgspec.DecodeError` in `read`. Times that cross the border are
monotonic seconds: front end and engine share one host, hence one CLOCK_MONOTONIC.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import msgspec

LARGEST_COMMAND_BYTES = 1 << 20  # a Submit with a full context of token ids is a few KiB

T = TypeVar("T")


class Finish(Enum):
    """Why a sequence ended inside the engine. The front end adds the ends that only it can see."""

    STOP = "stop"  # the end-of-text token or one of the request's stop tokens
    MAX_OUTPUT_TOKENS = "max_output_tokens"
    CONTEXT_LENGTH = "context_length"
    ABORTED = "aborted"  # the front end asked for it
    DEADLINE = "deadline"  # the request's deadline passed, or in the queue: no first token could come before it
    FAILED = "failed"  # the engine could not go on with it; the engine's log has the cause


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How one request's tokens are drawn. Filters apply in the order of the fields, as in transformers.

    Ranges are checked at the wire (see the protos); the engine relies on them.
    """

    repetition_penalty: float = 1.0  # > 0; over prompt and output (Keskar et al. 2019, section 4.1); 1 = off
    presence_penalty: float = 0.0  # -2..2; over output tokens
    frequency_penalty: float = 0.0  # -2..2; over output tokens
    logit_bias: dict[int, float] = {}
    temperature: float = 1.0  # 0..2; 0 = greedy
    top_k: int | None = None  # >= 1; None = off
    top_p: float = 1.0  # (0, 1]; 1 = off (Holtzman et al. 2020)
    min_p: float = 0.0  # [0, 1]; 0 = off
    typical_p: float = 1.0  # (0, 1]; 1 = off (Meister et al. 2022)
    seed: int = 0  # uint64; draws are keyed by (seed, candidate, position), never by the batch
    logprobs: int | None = None  # None = none; 0 = the chosen token's; n = also the n most likely
    max_output_tokens: int = 128  # >= 1, for each candidate
    stop_token_ids: tuple[int, ...] = ()  # beside end-of-text; the stop token itself is not emitted
    ignore_eos: bool = False  # end-of-text is an ordinary token
    watermark: bool = False  # mark what is drawn, where temperature is not 0; the model was loaded with a WatermarkKey


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Start a generation: `candidates` sequences over one prompt, which is prefilled once."""

    request: str  # unique among the front end's live requests
    model: str
    prompt: list[int]  # at least one token; prompt plus one must fit the context
    sampling: Sampling
    candidates: int = 1  # 1..8
    deadline: float | None = None  # monotonic seconds
    identity: str = ""  # whose share of the slots it takes; those that name none are one
    priority: int = 0  # among its identity's own requests: higher goes first
    cache_salt: str = ""  # its prompt's prefix is shared with prompts of the same salt only; empty: with none


class Score(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Log-probabilities of a given text: token i given tokens 0..i-1, for i >= 1."""

    request: str
    model: str
    ids: list[int]  # at least two tokens, at most the context length
    logprobs: int = 0  # how many most-likely alternatives beside each token
    deadline: float | None = None
    identity: str = ""
    priority: int = 0


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """End a request, or one candidate of it. Unknown ones are ignored: an end may have crossed the abort."""

    request: str
    candidate: int | None = None


class WatermarkKey(msgspec.Struct, frozen=True, array_like=True):
    """What a model's output is marked by, as watermark.Scheme takes it. Never shown, whatever prints a message."""

    layers: tuple[int, ...]
    table_seed: int

    def __repr__(self) -> str:
        return "WatermarkKey(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Speculation(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Speculative decoding: who guesses the next tokens of a model's sequences, and how many at most."""

    draft: str | None  # a model that is loaded before; None: prompt look-up
    tokens: int  # >= 1


class Load(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Load a model from a local directory; answered by `Loaded` or `LoadFailed`."""

    model: str
    directory: str
    weights_sha256: str | None  # hex; None where the policy pins none
    device: str  # "cpu", "cuda:0"
    dtype: str  # "float32", "bfloat16"
    slots: int | None  # sequences at once; None: as many as fit
    step_tokens: int  # token budget of one step: decode rows first, the rest prefill
    memory_share: float = 1.0  # of the free memory, for weights and slots where these are counted; 0..1
    weight: float = 1.0  # its share of the device's time beside other models that have work there; > 0
    prefix_reuse: bool = True  # whether a prompt starts from what is cached of its beginning
    watermark: WatermarkKey | None = None
    speculation: Speculation | None = None
    draft_slot_bytes: int = 0  # memory that a draft model takes beside each slot; known when it is loaded


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Drop a model; its sequences finish as ABORTED. A `Pong` to a later `Ping` says that it is done.

    A model whose load is not answered yet is not there to be dropped.
    """

    model: str


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Answered by `Pong` between two steps: says that the engine loop is alive."""

    number: int


class Stop(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """End the engine loop after the step in progress."""


Command = Submit | Score | Abort | Load | Unload | Ping | Stop


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token and its log-probability (natural log, after penalties and bias, before temperature)."""

    id: int
    logprob: float


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """The request holds its slots; its prefill begins."""

    request: str
    queue_seconds: float
    cached_tokens: int = 0  # the first of the prompt's, which are cached already and not fed


class Token(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """One output token. `logprob` and `top` are None and empty unless asked for."""

    request: str
    candidate: int
    id: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()

    def without_logprob(self) -> Token:
        """The same token, with nothing said of how likely it was."""
        return Token(request=self.request, candidate=self.candidate, id=self.id)


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """The last event of one candidate. A request is over when each of its candidates has finished.

    Also the last event of a score request that got no `Scored`, as candidate 0.
    """

    request: str
    candidate: int
    finish: Finish


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """The answer to `Score`: entries for tokens 1..n-1, in order. Also the request's last event."""

    request: str
    logprobs: list[float]
    top: list[tuple[TokenLogprob, ...]]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """The engine cannot take this request at all: no such model, or it can never fit. Its only event."""

    request: str
    cause: str


class Loaded(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """A model is ready."""

    model: str
    parameters: int
    context_length: int
    vocabulary_size: int
    eos_token_id: int | None
    weights_sha256: str
    dtype: str
    device: str
    slots: int
    cache_bytes: int
    seconds: float  # time the load took


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """A model could not be loaded; the text says what to do about it."""

    model: str
    message: str


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Answer to `Ping`."""

    number: int


class Figures(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """One model's state after a step, for metrics and admission.

    `batch_rows` 0: no step was run; the model was loaded, a step ran out of memory, or the last of its requests ended
    otherwise.
    """

    model: str
    queued: int  # requests waiting for slots
    running: int  # sequences that hold a slot
    slots: int
    batch_rows: int  # sequences in this step
    prefill_tokens: int  # prompt tokens fed in this step
    cached_tokens: int  # prompt tokens of the requests it started that were cached already
    step_seconds: float
    out_of_memory: bool = False  # a step was given up for want of memory
    drafted_tokens: int = 0  # tokens that a drafter guessed and this step checked
    accepted_tokens: int = 0  # those of them that were right


Event = Started | Token | Finished | Scored | Refused | Loaded | LoadFailed | Pong | Figures


class StepEvents(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Everything one step has to tell one front end, in order, as one message."""

    events: list[Event]


def read(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    """Decode one message. Raises msgspec.DecodeError for bytes that are none, whatever is wrong with them."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec lets both of them through
        raise msgspec.DecodeError(type(error).__name__) from None
