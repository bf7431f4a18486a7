from __future__ import annotations

import json

import httpx
import pytest

from sluicegate.server.errors import PageUnusable
from sluicegate.server.fetching import Access, open_client
from sluicegate.server.report.prometheus import Prometheus, Series

URL = httpx.URL("http://prometheus:9090/base/")
VECTOR = {"resultType": "vector", "result": [{"metric": {"partner": "lab"}, "value": [10, "3.5"]}]}


class Transport(httpx.AsyncBaseTransport):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[httpx.URL] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        return httpx.Response(200, stream=httpx.ByteStream(self.answer))


def success(data: object) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()


async def test_a_query_is_asked_at_a_time() -> None:
    transport = Transport(success(VECTOR))
    async with open_client(Access(), transport=transport) as client:
        found = await Prometheus(client, URL).at('up{a="b"}', 1_768_892_400.5)

    assert found == [Series({"partner": "lab"}, ((10.0, 3.5),))]
    [url] = transport.asked
    assert (url.path, dict(url.params)) == ("/base/api/v1/query", {"query": 'up{a="b"}', "time": "1768892400.500"})


async def test_a_range_is_asked_by_its_step() -> None:
    data = {"resultType": "matrix", "result": [{"metric": {}, "values": [[10, "1"], [70, "NaN"]]}]}
    transport = Transport(success(data))
    async with open_client(Access(), transport=transport) as client:
        [series] = await Prometheus(client, URL).over("up", 10, 70, 60)

    assert [time for time, _ in series.points] == [10, 70]
    assert dict(transport.asked[0].params) == {"query": "up", "start": "10.000", "end": "70.000", "step": "60.000"}


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"status":"error","error":"\\u001b[2J"}',
        success({"resultType": "matrix", "result": []}),
        success({"resultType": "vector", "result": [{}]}),
        success({"resultType": "vector", "result": [{"metric": {}, "value": [1]}]}),
        success({"resultType": "vector", "result": [{"metric": {}, "value": ["1", 2]}]}),
        success({"resultType": "vector", "result": [7]}),
        success({"resultType": "vector", "result": {}}),
        success({"resultType": "vector", "result": [VECTOR["result"][0]] * 10_001}),
    ],
)
async def test_what_no_prometheus_says_is_refused(answer: bytes) -> None:
    async with open_client(Access(), transport=Transport(answer)) as client:
        with pytest.raises(PageUnusable, match=r"^answered ") as raised:
            await Prometheus(client, URL).at("up", 0)

    assert "\x1b" not in str(raised.value)
