"""Every field of every request at its bounds and one past them, as the protos state them.

The cases are read from the rules themselves, so that a new field cannot be forgotten: one without a rule fails here
until it gets one or is named in UNBOUNDED.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from harness import LONG_SECONDS, SMALL, Server, bearer, refusal

from sluicegate.server.errors import CallRefused
from sluicegate.server.rpc.methods import own_services
from sluicegate.server.rpc.validation import MAX_VIOLATIONS, SMALL_REQUEST_BYTES, validate
from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.finding_service_pb2 import (
    FINDING_KIND_BIAS,
    FINDING_SEVERITY_LOW,
    FINDING_STATUS_ACCEPTED,
    Attachment,
)
from sluicegate.v1.generation_pb2 import GenerationConfig, TokenIds
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)
from sluicegate.v1.release_service_pb2 import PolicyFile
from sluicegate.v1.withdrawal_service_pb2 import (
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    LiftingSignature,
    SubjectTarget,
    TokenTarget,
    WithdrawalTarget,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = Path(__file__).parents[3] / "protos/image.binpb"
UNBOUNDED = {"config.seed": "any 64 bits make a seed"}
"""Fields, truth values apart, that have no rule, and why they need none."""
DENORMAL = 1e-45  # the smallest float32 above 0
GOOD: dict[str, dict[str, Any]] = {
    "GenerateRequest": {"model": SMALL, "text": "The"},
    "StreamGenerateRequest": {"model": SMALL, "text": "The"},
    "ScoreRequest": {"model": SMALL, "text": "The"},
    "TokenizeRequest": {"model": SMALL},
    "DetokenizeRequest": {"model": SMALL},
    "GetModelRequest": {"model": SMALL},
    "CheckAccessRequest": {"model": SMALL, "action": "generate"},
    "ListQuotasRequest": {"model": SMALL},
    "DetectTextRequest": {"text": "The"},
    "CreateWithdrawalRequest": {"target": WithdrawalTarget(model=SMALL), "justification": "a drill"},
    "LiftWithdrawalRequest": {"id": "any", "justification": "a drill"},
    "SimulatePolicyRequest": {"files": [PolicyFile(name="release.yaml")]},
    "CreateFindingRequest": {
        "kind": FINDING_KIND_BIAS,
        "model": SMALL,
        "severity": FINDING_SEVERITY_LOW,
        "summary": "a drill",
    },
    "GetFindingRequest": {"id": "any"},
    "CancelGenerationRequest": {"request_id": "any"},
    "LoadModelRequest": {"model": SMALL, "justification": "a drill"},
    "UnloadModelRequest": {"model": SMALL, "justification": "a drill"},
    "DrainRequest": {"justification": "a drill"},
    "CancelRequestRequest": {"request_id": "any", "justification": "a drill"},
    "ReviewFindingRequest": {"id": "any", "status": FINDING_STATUS_ACCEPTED, "justification": "a drill"},
}
"""A request of each kind that breaks no rule; the others are good when empty."""
GOOD_INSIDE: dict[str, Message] = {
    "target.token": TokenTarget(issuer="i", token_id="t"),
    "target.issued_before": IssuedBeforeTarget(issuer="i"),
    "target.client": ClientTarget(issuer="i", client_id="c"),
    "target.subject": SubjectTarget(issuer="i", subject="s"),
    "target.key": KeyTarget(issuer="i", key_id="k"),
    "signatures": LiftingSignature(signer="lead", value="v"),
    "files": PolicyFile(name="release.yaml"),
    "attachments": Attachment(name="pairs.csv", media_type="text/csv", sha256="0" * 64),
}
"""What stands around a field inside a message, by that message's path."""


@dataclass(frozen=True, slots=True)
class Method:
    path: str
    request: type[Message]
    is_stream: bool

    def ask(self, server: Server, request: Message) -> Any:
        channel = server.channel_of(self.path)
        make: Any = channel.unary_stream if self.is_stream else channel.unary_unary
        return make(self.path)(request.SerializeToString(), metadata=bearer(), timeout=LONG_SECONDS)


METHODS = {
    method.input_type.name: Method(
        f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type), method.server_streaming
    )
    for service in own_services()
    for method in service.methods
}


@dataclass(frozen=True, slots=True)
class Case:
    """A value of one field. `place`: where the violation is reported; None: there is none."""

    request: str
    field: str
    what: str
    value: Any
    place: str | None

    def message(self) -> Message:
        message = METHODS[self.request].request(**GOOD.get(self.request, {}))
        for inner, good in GOOD_INSIDE.items():
            if self.field.startswith(f"{inner}."):
                put(message, inner.split("."), good)
        put(message, self.field.split("."), self.value)
        return message


def put(message: Any, path: list[str], value: Any) -> None:
    """Set a field anywhere inside a message."""
    for name in path[:-1]:
        inner = getattr(message, name)
        message = inner[0] if hasattr(inner, "add") else inner
    name = path[-1]
    if isinstance(value, Message) and hasattr(getattr(message, name), "add"):
        getattr(message, name).add().CopyFrom(value)
    elif isinstance(value, list):
        del getattr(message, name)[:]
        getattr(message, name).extend(value)
    elif isinstance(value, dict):
        getattr(message, name).update(value)
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(IMAGE.read_bytes()).file:
        pool.Add(file)
    return pool


def rules_of(field: FieldDescriptor) -> Any:
    """The field's protovalidate rules. Any: their type exists in the descriptors only."""
    options = GetMessageClass(_pool().FindMessageTypeByName("google.protobuf.FieldOptions"))
    extension = _pool().FindExtensionByName("buf.validate.field")
    read: Any = options.FromString(field.GetOptions().SerializeToString())
    return read.Extensions[extension]


def fields_of(message: Any, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """All fields of a request, those of messages within it by their dotted paths."""
    for field in message.fields:
        path = f"{prefix}{field.name}"
        inner = field.message_type
        is_ours = inner is not None and inner.full_name.startswith("sluicegate.") and not inner.GetOptions().map_entry
        if is_ours and inner is not None:
            yield from fields_of(inner, f"{path}.")
        else:
            yield path, field


def next_float(value: float, towards: float) -> float:
    """The next float32."""
    if value == 0:
        return math.copysign(DENORMAL, towards)
    [bits] = struct.unpack("<i", struct.pack("<f", value))
    step = 1 if (towards > value) == (value > 0) else -1
    [found] = struct.unpack("<f", struct.pack("<i", bits + step))
    return float(found)


def numbers(rules: Any, *, is_float: bool = False, is_signed: bool = True) -> Iterator[tuple[str, Any, bool]]:
    """Description, value, and whether it is allowed."""

    def beyond(value: Any, towards: float) -> Any:
        return next_float(value, towards) if is_float else value + (1 if towards > value else -1)

    names = {field.name for field, _ in rules.ListFields()}
    if "lte" in names:
        yield "at most", rules.lte, True
        yield "above most", beyond(rules.lte, math.inf), False
    if "gte" in names:
        yield "at least", rules.gte, True
        if is_signed or rules.gte > 0:
            yield "below least", beyond(rules.gte, -math.inf), False
    if "gt" in names:
        yield "just above", beyond(rules.gt, math.inf), True
        yield "not above", rules.gt, False
    if is_float:
        yield from (("not a number", math.nan, False), ("infinite", math.inf, False), ("minus", -math.inf, False))


def texts(rules: Any) -> Iterator[tuple[str, str, bool]]:
    names = {field.name for field, _ in rules.ListFields()}
    if "min_len" in names:
        yield "shortest", "x" * rules.min_len, True
        yield "too short", "x" * (rules.min_len - 1), False
    if "max_len" in names:
        yield "longest", "x" * rules.max_len, True
        yield "too long", "x" * (rules.max_len + 1), False
    if "max_bytes" in names:
        yield "most bytes", "ä" * (rules.max_bytes // 2), True
        yield "too many bytes", "ä" * (rules.max_bytes // 2) + "x", False
    if "pattern" in names:
        for text in (" ", "a b", "a\n", "ä", "\x7f", "a/b", "0f" * 32, "0F" * 32):
            is_good = re.fullmatch(rules.pattern, text) is not None
            yield f"{'' if is_good else 'not '}{text!r}", text, is_good
    if "in" in names:
        for value in getattr(rules, "in"):
            yield f"is {value}", value, True
        yield "none of them", "train", False


def octets(rules: Any) -> Iterator[tuple[str, bytes, bool]]:
    yield "longest", b"x" * rules.max_len, True
    yield "too long", b"x" * (rules.max_len + 1), False


def times(rules: Any, kind: type[Duration | Timestamp]) -> Iterator[tuple[str, Duration | Timestamp, bool]]:
    most, least = rules.lte.ToNanoseconds(), rules.gte.ToNanoseconds()
    for what, nanos, is_good in (
        ("at most", most, True),
        ("above most", most + 1, False),
        ("at least", least, True),
        ("below least", least - 1, False),
    ):
        value = kind()
        value.FromNanoseconds(nanos)
        yield what, value, is_good


def members(field: FieldDescriptor) -> Iterator[tuple[str, int, bool]]:
    """Every value of an enum but UNSPECIFIED is good."""
    assert field.enum_type is not None
    numbers = [value.number for value in field.enum_type.values]
    yield from ((f"is {number}", number, number != 0) for number in numbers)
    yield "none of them", max(numbers) + 1, False


def lists(rules: Any, item: Any) -> Iterator[tuple[str, list[Any], bool]]:
    names = {field.name for field, _ in rules.ListFields()}
    if "max_items" in names:
        yield "most", [item] * rules.max_items, True
        yield "too many", [item] * (rules.max_items + 1), False
        yield "far too many", [item] * max(10_000, 4 * rules.max_items), False
    if "min_items" in names:
        yield "fewest", [item] * rules.min_items, True


def maps(rules: Any) -> Iterator[tuple[str, dict[int, float], bool]]:
    yield "most", dict.fromkeys(range(rules.max_pairs), 0.0), True
    yield "too many", dict.fromkeys(range(rules.max_pairs + 1), 0.0), False
    for what, value, is_good in numbers(rules.values.float, is_float=True):
        yield f"a value {what}", {7: value}, is_good


def cases_of(request: str, path: str, field: FieldDescriptor) -> Iterator[Case]:
    rules = rules_of(field)
    found: Iterator[tuple[str, Any, bool]] = iter(())
    match rules.WhichOneof("type"):
        case "float":
            found = numbers(rules.float, is_float=True)
        case "uint32" | "uint64" as kind:
            found = numbers(getattr(rules, kind), is_signed=False)
        case "int32":
            found = numbers(rules.int32)
        case "enum":
            found = members(field)
        case "string":
            found = texts(rules.string)
        case "bytes":
            found = octets(rules.bytes)
        case "duration":
            found = times(rules.duration, Duration)
        case "timestamp":
            found = times(rules.timestamp, Timestamp)
        case "map":
            found = maps(rules.map)
        case "repeated":
            is_text = field.type == FieldDescriptor.TYPE_STRING
            for what, value, is_good in texts(rules.repeated.items.string) if is_text else ():
                yield Case(request, path, f"an item {what}", [value], None if is_good else f"{path}[0]")
            found = lists(rules.repeated, "x" if is_text else 1)
    for what, value, is_good in found:
        # In a list of messages the violation names the item.
        place = re.sub(r"^(signatures|files|attachments)\.", r"\1[0].", path)
        yield Case(request, path, what, value, None if is_good else place)


CASES = [
    case
    for name, method in METHODS.items()
    for path, field in fields_of(method.request.DESCRIPTOR)
    for case in cases_of(name, path, field)
]


def named(case: Case) -> str:
    return f"{case.request} {case.field} {case.what}"


@pytest.mark.parametrize("name", METHODS)
async def test_every_field_has_a_bound(name: str) -> None:
    fields = dict(fields_of(METHODS[name].request.DESCRIPTOR))

    bounded = {case.field for case in CASES if case.request == name}

    truths = {path for path, field in fields.items() if field.type == FieldDescriptor.TYPE_BOOL}
    assert set(fields) - bounded - truths - set(UNBOUNDED) == set()


@pytest.mark.parametrize("case", [case for case in CASES if case.place is None], ids=named)
async def test_a_value_at_its_bound_is_taken(case: Case) -> None:
    validate(case.message())


@pytest.mark.parametrize("case", [case for case in CASES if case.place is not None], ids=named)
async def test_a_value_past_its_bound_is_refused(shared: Server, case: Case) -> None:
    refused = await refusal(METHODS[case.request].ask(shared, case.message()))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {case.place}
    assert refused.details == ("ErrorInfo", "BadRequest", "RequestInfo")


@pytest.mark.parametrize("name", ["GenerateRequest", "StreamGenerateRequest", "ScoreRequest"])
@pytest.mark.parametrize(
    ("members", "place"),
    [({}, {"prompt", "content"}), ({"text": ""}, {"text"}), ({"token_ids": TokenIds()}, {"token_ids.ids"})],
    ids=["none", "empty text", "no tokens"],
)
async def test_a_prompt_that_is_empty_is_refused(
    shared: Server, name: str, members: Mapping[str, Any], place: set[str]
) -> None:
    request = METHODS[name].request(model=SMALL, **members)

    refused = await refusal(METHODS[name].ask(shared, request))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) <= place
    assert refused.violations


async def test_all_violations_are_told_at_once_without_their_values(shared: Server) -> None:
    config = GenerationConfig(temperature=9.75, top_k=0, stop_sequences=["", "fine", ""])
    request = GenerateRequest(model="", text="The", config=config, client_request_id="with space")

    refused = await refusal(METHODS["GenerateRequest"].ask(shared, request))

    assert set(refused.violations) == {
        "model",
        "client_request_id",
        "config.temperature",
        "config.top_k",
        "config.stop_sequences[0]",
        "config.stop_sequences[2]",
    }
    assert not any("9.75" in text or "with space" in text for text in refused.violations.values())


async def test_of_many_violations_the_first_ones_are_told() -> None:
    with pytest.raises(CallRefused) as caught:
        validate(GenerateRequest(model=SMALL, text="The", config=GenerationConfig(stop_sequences=[""] * 40)))

    assert len(caught.value.violations) == MAX_VIOLATIONS


async def test_of_a_large_request_one_violation_is_told() -> None:
    text = "x" * SMALL_REQUEST_BYTES

    with pytest.raises(CallRefused) as caught:
        validate(GenerateRequest(model="", text=text, config=GenerationConfig(temperature=3, top_p=2)))

    assert len(caught.value.violations) == 1


RULES_OF_THE_MODEL: list[tuple[Message, str, str]] = [
    (
        GenerateRequest(model=SMALL, token_ids=TokenIds(ids=[3_840])),
        "token_ids.ids",
        "token ids of this model go from 0 to 3839",
    ),
    (
        StreamGenerateRequest(model=SMALL, token_ids=TokenIds(ids=[1, 2**32 - 1])),
        "token_ids.ids",
        "token ids of this model go from 0 to 3839",
    ),
    (
        ScoreRequest(model=SMALL, token_ids=TokenIds(ids=[3_840])),
        "token_ids.ids",
        "token ids of this model go from 0 to 3839",
    ),
    (
        METHODS["DetokenizeRequest"].request(model=SMALL, token_ids=[3_840]),
        "token_ids",
        "token ids of this model go from 0 to 3839",
    ),
    (
        GenerateRequest(model=SMALL, text="The", config=GenerationConfig(stop_token_ids=[3_840])),
        "config.stop_token_ids",
        "token ids of this model go from 0 to 3839",
    ),
    (
        GenerateRequest(model=SMALL, text="The", config=GenerationConfig(logit_bias={3_840: 1.0})),
        "config.logit_bias",
        "token ids of this model go from 0 to 3839",
    ),
    (
        GenerateRequest(model=SMALL, text="The", config=GenerationConfig(logprobs=3)),
        "config.logprobs",
        "needs response_logprobs, which returns the chosen token's own",
    ),
]


@pytest.mark.parametrize(("request_", "place", "rule"), RULES_OF_THE_MODEL, ids=[row[1] for row in RULES_OF_THE_MODEL])
async def test_rules_that_need_the_model_or_two_fields_are_told_in_the_same_way(
    shared: Server, request_: Message, place: str, rule: str
) -> None:
    refused = await refusal(METHODS[request_.DESCRIPTOR.name].ask(shared, request_))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations == {place: rule}


@pytest.mark.parametrize(
    ("request_", "prompt", "wanted"),
    [
        (GenerateRequest(model=SMALL, token_ids=TokenIds(ids=[1] * 1_024)), "1024", "1"),
        (
            StreamGenerateRequest(
                model=SMALL, token_ids=TokenIds(ids=[1] * 1_000), config=GenerationConfig(max_output_tokens=25)
            ),
            "1000",
            "25",
        ),
        (ScoreRequest(model=SMALL, token_ids=TokenIds(ids=[1] * 1_024)), "1025", "0"),
    ],
    ids=["full prompt", "prompt and output", "score"],
)
async def test_what_does_not_fit_the_context_is_refused_with_its_sizes(
    shared: Server, request_: Message, prompt: str, wanted: str
) -> None:
    refused = await refusal(METHODS[request_.DESCRIPTOR.name].ask(shared, request_))

    assert refused.verdict == "INVALID_ARGUMENT CONTEXT_LENGTH_EXCEEDED"
    assert refused.facts == {"context_length": "1024", "prompt_tokens": prompt, "max_output_tokens": wanted}


async def test_no_text_has_no_tokens(shared: Server) -> None:
    answer = await shared.generation.Tokenize(TokenizeRequest(model=SMALL), metadata=bearer(), timeout=LONG_SECONDS)

    assert list(answer.tokens) == []


async def test_a_check_takes_no_other_action(shared: Server) -> None:
    request = CheckAccessRequest(action="tokenize", model=SMALL)

    refused = await refusal(METHODS["CheckAccessRequest"].ask(shared, request))

    assert set(refused.violations) == {"action"}
