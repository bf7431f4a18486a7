"""What trusted proxies' headers say, hostile values included."""

from __future__ import annotations

import hashlib
import ssl
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from urllib.parse import quote

import pytest
from certificates import Authority

from sluicegate.auth import Reason, certificate_thumbprint
from sluicegate.server.errors import CallRefused
from sluicegate.server.rpc.forwarded import (
    FORWARDED_CERTIFICATE,
    FORWARDED_FOR,
    forwarded_address,
    forwarded_thumbprint,
)

NETWORKS = (IPv4Network("10.0.0.0/24"), IPv6Network("2001:db8:ffff::/48"))
HASH = "ab" * 32
OTHER_HASH = "cd" * 32
THUMBPRINT = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([], None),
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1,\t192.0.2.7 "], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7, 10.0.0.5"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7", "10.0.0.5, 2001:db8:ffff::1, ::ffff:10.0.0.6"], "192.0.2.7"),
        (["10.0.0.5"], None),
        # What a stranger wrote stands left of what a proxy added, and is not read.
        (["10.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (["unknown, 192.0.2.7"], "192.0.2.7"),
        (['"><script>, ;;;, 192.0.2.7, 10.0.0.5'], "192.0.2.7"),
        ([", 192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_caller_is_the_right_most_address_that_is_no_proxys(values: list[str], address: str | None) -> None:
    assert forwarded_address(values, NETWORKS) == (ip_address(address) if address is not None else None)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "192.0.2.7,",
        "unknown",
        "_hidden",
        "client.example",
        "192.0.2.7:443",
        "[2001:db8::7]",
        "[2001:db8::7]:443",
        '"192.0.2.7"',
        "for=192.0.2.7",
        "192.0.2.007",
        "192.0.2",
        "192.0.2.256",
        "0xc0.0.2.7",
        "3221225991",
        "192.0.2.7/32",
        "192.0.2.7 192.0.2.8",
        "192.0.2.7\x00",
        "192.0.2.7\xa0",
        "\u0661.0.2.7",
        "fe80::1%eth0",
        "2001:db8::7::1",
        "192.0.2.1, unknown, 10.0.0.5",
        "9" * 10_000,
    ],
)
def test_an_address_that_cannot_be_understood_refuses_the_call(value: str) -> None:
    with pytest.raises(CallRefused) as caught:
        forwarded_address([value], NETWORKS)

    assert caught.value.reason is Reason.REQUEST_INVALID
    assert [violation.field for violation in caught.value.violations] == [FORWARDED_FOR]
    assert "192" not in caught.value.violations[0].description


def nobody(_thumbprint: str, _names: frozenset[str]) -> bool:
    return False


@pytest.mark.parametrize(
    "value",
    [
        f"Hash={HASH}",
        f"Hash={HASH.upper()}",
        f'Hash="{HASH}"',
        f"By=spiffe://example/server;Hash={HASH};URI=spiffe://example/client?a=b",
        f'Hash={HASH};Subject="CN=a, O=\\"b;c\\"";DNS=a.example;DNS=b.example',
        f'Hash={HASH};Subject=""',
        f"Hash={HASH};Future=1",
        f"Hash={OTHER_HASH},Hash={HASH}",
        f"Hash={OTHER_HASH}, Hash={HASH}",
        # What a stranger wrote is an element of its own, whatever is in its quotes.
        f'Hash={OTHER_HASH};Subject=",Hash={OTHER_HASH}",Hash={HASH};Subject="CN=a"',
        f"nonsense=,Hash={HASH}",
        f'By="\\"",Hash={HASH}',
    ],
)
def test_the_certificate_is_that_of_the_right_most_element(value: str) -> None:
    assert forwarded_thumbprint([value], nobody) == THUMBPRINT


def test_several_headers_are_one_list() -> None:
    assert forwarded_thumbprint([f"Hash={OTHER_HASH}", f"Hash={HASH}"], nobody) == THUMBPRINT


def test_no_header_is_no_certificate() -> None:
    assert forwarded_thumbprint([], nobody) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        f"Hash={HASH},",
        f"Hash={HASH};",
        f";Hash={HASH}",
        HASH,
        f"Hash:{HASH}",
        f"hash={HASH}",
        f" Hash={HASH}",
        f"Hash ={HASH}",
        f"Hash= {HASH}",
        f"Hash={HASH[:-1]}",
        f"Hash={HASH}0",
        f"Hash={HASH[:-2]}zz",
        f"Hash={HASH[:-2]}٣٣",
        f"Hash={HASH}\n",
        "Hash=",
        f"Hash={HASH};Hash={HASH}",
        f"Hash={HASH};Hash={OTHER_HASH}",
        "Subject=nobody",
        "URI=spiffe://example/client",
        "Cert=",
        "Cert=nonsense",
        "Cert=%ff%fe",
        f'Cert="{quote("-----BEGIN CERTIFICATE-----")}"',
        f'Hash={HASH};Subject="',
        f'Hash={HASH};Subject="a"b',
        f'Hash={HASH};Subject=a"b"',
        f'Hash={HASH};Subject="a\\"',
        # A stray quote that would make the proxy's own element a part of a stranger's.
        f'Hash={OTHER_HASH};Subject=",Hash={HASH};Subject="CN=a"',
        f'Hash={OTHER_HASH};Subject=",Hash={HASH};Subject="CN=a\\"b"',
        f'Hash={OTHER_HASH};Subject="\\",Hash={HASH}',
        '"' * 10_001,
        f"Hash={HASH}," + 'a="\\' * 3_000,
    ],
)
def test_a_certificate_that_cannot_be_understood_refuses_the_call(value: str) -> None:
    with pytest.raises(CallRefused) as caught:
        forwarded_thumbprint([value], nobody)

    assert caught.value.reason is Reason.REQUEST_INVALID
    assert [violation.field for violation in caught.value.violations] == [FORWARDED_CERTIFICATE]
    assert HASH not in caught.value.violations[0].description


def hash_of(pem: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


@pytest.fixture
def own(tmp_path: Path) -> bytes:
    return Authority(tmp_path).issue("client.example").read_bytes()


def test_a_whole_certificate_tells_its_thumbprint_with_and_without_its_hash(own: bytes) -> None:
    whole = f'Cert="{quote(own, safe="")}"'

    for value in (whole, f"Hash={hash_of(own)};{whole}", f'{whole};Chain="nonsense"'):
        assert forwarded_thumbprint([value], nobody) == certificate_thumbprint(own)


def test_a_certificate_of_another_hash_refuses_the_call(own: bytes) -> None:
    with pytest.raises(CallRefused):
        forwarded_thumbprint([f'Hash={HASH};Cert="{quote(own, safe="")}"'], nobody)


def test_elements_of_trusted_proxies_are_passed_over(own: bytes, tmp_path: Path) -> None:
    proxy = Authority(tmp_path).issue("proxy.example").read_bytes()
    asked = []

    def is_proxy(thumbprint: str, names: frozenset[str]) -> bool:
        asked.append((thumbprint, names))
        return "proxy.example" in names

    value = f'Hash={HASH},Hash={hash_of(own)},Cert="{quote(proxy, safe="")}"'

    assert forwarded_thumbprint([value], is_proxy) == certificate_thumbprint(own)
    assert asked == [
        (certificate_thumbprint(proxy), frozenset({"proxy.example"})),
        (certificate_thumbprint(own), frozenset()),
    ]


def test_nobody_is_left_where_every_element_is_a_proxys() -> None:
    assert forwarded_thumbprint([f"Hash={HASH},Hash={HASH}"], lambda *_: True) is None
