from __future__ import annotations

import httpx
import pytest
from metrics_pages import page_of, server_metrics

from sluicegate.server.errors import PageUnusable
from sluicegate.server.fetching import Access, open_client
from sluicegate.server.watch.watching import Watch

GOOD = httpx.URL("http://gate-0/metrics")
OTHER = httpx.URL("http://gate-1/metrics")


class Answers(httpx.AsyncBaseTransport):
    """What each host answers: a status, or None for a page of metrics."""

    def __init__(self) -> None:
        self.by_host: dict[str, int | None] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status = self.by_host.get(request.url.host)
        if status == 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status or 200, stream=httpx.ByteStream(page_of(server_metrics())))


async def test_each_server_is_asked_and_one_that_is_gone_holds_nobody_up() -> None:
    answers = Answers()
    answers.by_host["gate-1"] = 0
    async with open_client(Access(), transport=answers) as client:
        watched = Watch(client, [GOOD, OTHER], limit_seconds=5, clock=iter(range(10)).__next__)

        await watched.scrape()
        first = watched.view()
        answers.by_host["gate-1"] = None
        await watched.scrape()

    assert [server.problem for server in first.servers] == [None, "cannot be reached"]
    assert watched.view().answering == 2


async def test_a_page_that_never_was_of_use_is_an_error_and_one_that_was_is_a_problem() -> None:
    answers = Answers()
    async with open_client(Access(), transport=answers) as client:
        watched = Watch(client, [GOOD], limit_seconds=5)
        await watched.scrape()
        answers.by_host["gate-0"] = 401
        await watched.scrape()
        never = Watch(client, [GOOD], limit_seconds=5)

        with pytest.raises(PageUnusable, match="http://gate-0/metrics: answered 401"):
            await never.scrape()

    assert watched.servers[0].problem == "answered 401: it asks for a user and a password that it knows"
