"""The client's call for a model's card, and how its answer is read."""

from __future__ import annotations

from client_server import FakeServer
from model_cards import BIAS, MEMORISATION, OPENING, SENT, WATERMARK

from sluicegate.client import Client, SyncClient
from sluicegate.v1 import model_service_pb2


async def test_a_card_has_the_model_what_was_measured_and_how_it_came_to_be_open(server: FakeServer) -> None:
    server.will("GetModel", [SENT])

    async with Client(server.target) as client:
        card = await client.model_card("gpt2-774m")

    assert server.calls[0].request == model_service_pb2.GetModelRequest(model="gpt2-774m")
    assert (card.model.id, card.model.dtype) == ("gpt2-774m", "bfloat16")
    assert (card.bias, card.watermark, card.memorisation, card.openings) == (
        BIAS,
        WATERMARK,
        (MEMORISATION,),
        (OPENING,),
    )


def test_what_was_not_measured_is_not_there(server: FakeServer) -> None:
    server.will("GetModel", [model_service_pb2.GetModelResponse(model=model_service_pb2.Model(id="a"))])

    with SyncClient(server.target) as client:
        card = client.model_card("a")

    assert (card.bias, card.watermark, card.memorisation, card.openings) == ((), None, (), ())
