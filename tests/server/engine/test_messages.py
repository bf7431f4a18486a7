from __future__ import annotations

import random
from typing import get_args

import msgspec
import pytest

from sluicegate.server.engine.messages import (
    Abort,
    Command,
    Event,
    Figures,
    Finish,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Refused,
    Sampling,
    Score,
    Scored,
    Started,
    StepEvents,
    Stop,
    Submit,
    Token,
    TokenLogprob,
    Unload,
    read,
)

COMMANDS: list[Command] = [
    Submit(request="a", model="m", prompt=[1], sampling=Sampling()),
    Submit(
        request="a",
        model="m",
        prompt=[1, 50_256],
        sampling=Sampling(
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=0.25,
            logit_bias={7: -100.0},
            temperature=0.0,
            top_k=50,
            top_p=0.5,
            min_p=0.125,
            typical_p=0.75,
            seed=2**64 - 1,
            logprobs=20,
            max_output_tokens=1,
            stop_token_ids=(13, 198),
            ignore_eos=True,
        ),
        candidates=8,
        deadline=12.5,
    ),
    Score(request="a", model="m", ids=[1, 2], logprobs=3, deadline=0.5),
    Abort(request="a"),
    Abort(request="a", candidate=0),
    Load(
        model="m",
        directory="/models/m",
        weights_sha256=None,
        device="cuda:0",
        dtype="bfloat16",
        slots=4,
        step_tokens=256,
    ),
    Unload(model="m"),
    Ping(number=1),
    Stop(),
]
EVENTS: list[Event] = [
    Started(request="a", queue_seconds=0.25),
    Token(request="a", candidate=0, id=13),
    Token(request="a", candidate=7, id=13, logprob=-0.5, top=(TokenLogprob(13, -0.5), TokenLogprob(1, -1.0))),
    *(Finished(request="a", candidate=0, finish=finish) for finish in Finish),
    Scored(request="a", logprobs=[-1.0, -2.0], top=[(TokenLogprob(1, -1.0),), ()]),
    Refused(request="a", cause="no"),
    Loaded(
        model="m",
        parameters=124_439_808,
        context_length=1_024,
        vocabulary_size=50_257,
        eos_token_id=None,
        weights_sha256="00",
        dtype="float32",
        device="cpu",
        slots=4,
        cache_bytes=1,
        seconds=1.5,
    ),
    LoadFailed(model="m", message="no such directory"),
    Pong(number=1),
    Figures(model="m", queued=1, running=2, slots=4, batch_rows=2, prefill_tokens=9, cached_tokens=0, step_seconds=0.5),
]


def test_the_samples_hold_every_message() -> None:
    assert {type(command) for command in COMMANDS} == set(get_args(Command))
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_arrives_as_it_was_sent(command: Command) -> None:
    data = msgspec.msgpack.encode(command)

    assert read(msgspec.msgpack.Decoder(Command), data) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    data = msgspec.msgpack.encode(StepEvents([event, event]))

    assert read(msgspec.msgpack.Decoder(StepEvents), data) == StepEvents([event, event])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"plain text",
        msgspec.msgpack.encode(["Exec", "rm"]),
        msgspec.msgpack.encode(["Abort", 1, None]),
        msgspec.msgpack.encode(["Ping"]),
        msgspec.msgpack.encode(["Finished", "a", 0, "stop"]),
        msgspec.msgpack.encode(Ping(number=1)) + b"\x00",
        msgspec.msgpack.encode(Abort(request="name")).replace(b"name", b"\xff\xfe\xfd\xfc"),
        b"\x93" + msgspec.msgpack.encode("Ping") + b"\x01" + b"\x91" * 100_000,
        b"\x96" + b"".join(map(msgspec.msgpack.encode, ["Submit", "a", "m"])) + b"\xdd\xff\xff\xff\xff\x01",
    ],
    ids=[
        "nothing",
        "a byte that msgpack never uses",
        "text",
        "an unknown message",
        "a wrong type",
        "a missing field",
        "an event where commands are taken",
        "bytes after the message",
        "text that is no UTF-8",
        "nesting without end",
        "a list longer than its message",
    ],
)
def test_bytes_that_are_no_command_are_a_decode_error(data: bytes) -> None:
    decoder = msgspec.msgpack.Decoder(Command)

    with pytest.raises(msgspec.DecodeError):
        read(decoder, data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_commands_are_a_decode_error_or_a_command_but_nothing_else(seed: int) -> None:
    decoder = msgspec.msgpack.Decoder(Command)
    chance = random.Random(seed)
    refused = 0

    for _ in range(5_000):
        data = bytearray(msgspec.msgpack.encode(chance.choice(COMMANDS)))
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read(decoder, bytes(data))
        except msgspec.DecodeError:
            refused += 1

    assert refused > 1_000
