from __future__ import annotations

import pytest

from sluicegate.client.targets import is_local, is_local_url, is_target

LOCAL = [
    "localhost",
    "localhost:50051",
    "127.0.0.1:50051",
    "127.8.9.10:1",
    "[::1]:50051",
    "::1",
    "dns:localhost:50051",
    "dns:///localhost:50051",
    "dns:///127.0.0.1:50051",
    "ipv4:127.0.0.1:1,127.0.0.2:2",
    "ipv6:[::1]:1",
    "unix:/run/sluicegate.sock",
    "unix:///run/sluicegate.sock",
    "unix:relative.sock",
    "unix-abstract:name",
]
NOT_LOCAL = [
    "",
    ":50051",
    "server.example:443",
    "0.0.0.0:50051",
    "[::]:50051",
    "10.0.0.1:50051",
    "localhost.example:1",
    "localhost.:1",
    "127.0.0.1.example:1",
    "127.1:1",
    "0x7f.0.0.1:1",
    "2130706433:1",
    "user@localhost:1",
    "localhost@server.example:1",
    "localhost:1@server.example",
    "localhost:1,server.example:1",
    "127.0.0.1:1,server.example",
    "127.0.0.1:1#server.example",
    "127.0.0.1:1?server.example",
    "localhost:\N{FULLWIDTH DIGIT ONE}",
    "localhost:",
    "[::1]server.example:443",
    "[::1]:1,server.example",
    "[localhost]:1",
    "[::1",
    "dns://127.0.0.1/server.example:1",
    "dns://server.example/localhost:1",
    "dns:////localhost:1",
    "dns:///server.example:1",
    "ipv4:127.0.0.1:1,10.0.0.1:1",
    "ipv4:",
    "ipv4:127.0.0.1:1,",
    "ipv6:[::1]:1,[2001:db8::1]:1",
    "ipv6:[::1%25eth0]:1",
    "%6cocalhost:1",
    "http://localhost:1",
    "xds:///localhost",
    "vsock:1:1",
    " localhost:1",
    "localhost:1 ",
    "localhost\n:1",
    "localhost\x00.example:1",
]


@pytest.mark.parametrize("target", LOCAL)
def test_targets_on_this_machine_are_local(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize("target", NOT_LOCAL)
def test_what_may_leave_this_machine_or_is_not_understood_is_not_local(target: str) -> None:
    assert not is_local(target)


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.0.0.1", "http://[::1]:1/", "http://u@localhost"])
def test_urls_on_this_machine_are_local(url: str) -> None:
    assert is_local_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost.example/",
        "http://localhost@issuer.example/",
        "http://localhost\\@issuer.example/",
        "http://issuer.example/localhost",
        "http://issuer.example#localhost",
        "http://[::1",
        "http://",
        "",
    ],
)
def test_other_urls_are_not_local(url: str) -> None:
    assert not is_local_url(url)


@pytest.mark.parametrize(
    "target",
    ["server.example:443", "dns:///server.example:443", "ipv4:10.0.0.1:1,10.0.0.2:2", "ipv6:[2001:db8::1]:1,[::1]:1"],
)
def test_a_target_is_a_name_or_a_list_of_addresses(target: str) -> None:
    assert is_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "one.example:443,two.example:443",
        "dns:///one.example:443,two.example:443",
        "ipv4:10.0.0.1:1, 10.0.0.2:2",
        "ipv4:10.0.0.1:1,",
        "ipv4:10.0.0.1",
        "ipv4:one.example:1",
        "ipv4:[::1]:1",
        "ipv6:[2001:db8::1]",
        "ipv6:[10.0.0.1]:1",
        "ipv6:10.0.0.1:1",
    ],
)
def test_what_grpc_would_not_connect_to_is_no_target(target: str) -> None:
    assert not is_target(target)
