"""What Alertmanager sends arrives; what others send does no harm."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import httpx
import pytest

from tools.demo_monitoring.inbox import LONGEST_BYTES, Told, inbox, read_message

FIRING = {
    "status": "firing",
    "labels": {"alertname": "ScopeProbing", "partner": "curious-lab"},
    "annotations": {"summary": "curious-lab tries doors"},
}
TOLD = Told("partner-care-tickets", "ScopeProbing", "curious-lab", "curious-lab tries doors")


def message(*alerts: object) -> bytes:
    return json.dumps({"version": "4", "receiver": "partner-care-tickets", "alerts": alerts}).encode()


def test_alerts_that_fire_are_told_and_those_that_have_ended_are_not() -> None:
    found = read_message(message(FIRING, {**FIRING, "status": "resolved"}))

    assert found == [TOLD]


def test_an_alert_without_a_partner_names_none() -> None:
    (told,) = read_message(message({**FIRING, "labels": {"alertname": "ForgedTokens"}}))

    assert told.partner is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"receiver": 1, "alerts": []}'])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (json's and ours alike)
        read_message(body)


def test_it_listens_takes_messages_and_refuses_others() -> None:
    with inbox() as listening, httpx.Client(trust_env=False) as client:
        taken = client.post(listening.url + "/partner-care-tickets", content=message(FIRING))
        refused = client.post(listening.url, content=b"no JSON")
        told = listening.messages.get_nowait()

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert told == TOLD
    assert listening.messages.empty()


@pytest.mark.parametrize(("length", "status"), [(str(LONGEST_BYTES + 1), 413), ("-1", 413), ("many", 400)])
def test_it_reads_no_more_than_a_message_can_have(length: str, status: int) -> None:
    with inbox() as listening:
        connection = HTTPConnection(listening.url.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        answer = connection.getresponse()
        connection.close()

    assert answer.status == status
