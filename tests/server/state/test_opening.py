"""Which store a URL means, and which URLs are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.server.state import StateUnavailable, StoreUnsuitable, open_store


async def test_three_slashes_mean_a_file_below_the_base(tmp_path: Path) -> None:
    store = await open_store("sqlite:///state.db", base=tmp_path)

    await store.close()

    assert (tmp_path / "state.db").is_file()


async def test_three_slashes_without_a_base_mean_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///state.db")

    await store.close()

    assert (tmp_path / "state.db").is_file()


async def test_four_slashes_mean_an_absolute_file_whatever_the_base(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = await open_store(f"sqlite:///{tmp_path}/my%20state.db", base=tmp_path / "elsewhere")

    await store.close()

    assert (tmp_path / "my state.db").is_file()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "no state store is called nothing"),
        ("state.db", "no state store is called nothing"),
        ("postgres://localhost/state", "no state store is called postgres"),
        ("unix:/run/redis.sock", "no state store is called unix"),
        ("redis://[::1", "not a URL"),
        ("redis://localhost:port", "not a URL"),
        ("sqlite://state.db", "two slashes name a host"),
        ("sqlite:///state.db?mode=memory", "takes no options"),
        ("sqlite:///state.db#part", "takes no options"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///directory/", "name a file"),
        ("redis:///0", "the host is missing"),
        ("redis://localhost/staging", "the number of a database"),
        ("redis://localhost/0?socket_timeout=99", "no such option: socket_timeout"),
        ("redis://localhost/0?ssl_ca_certs=ca.pem", "no such option: ssl_ca_certs"),
        ("rediss://localhost/0?ssl_cert_reqs=none", "no such option: ssl_cert_reqs"),
        ("rediss://localhost/0?ssl_ca_certs=ca.pem&ssl_check_hostname=false", "no such option: ssl_check_hostname"),
    ],
)
async def test_url_that_means_no_store_is_refused_with_what_is_expected(url: str, text: str) -> None:
    with pytest.raises(StoreUnsuitable, match=text):
        await open_store(url)


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@localhost/x", "rediss://user:hunter2@localhost/0?ssl_cert_reqs=none"]
)
async def test_refusal_of_a_url_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(StoreUnsuitable) as refused:
        await open_store(url)

    assert "hunter2" not in str(refused.value)


async def test_redis_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StateUnavailable) as refused:
        await open_store("redis://user:hunter2@127.0.0.1:1/0")  # nobody listens on port 1

    assert "hunter2" not in str(refused.value)
