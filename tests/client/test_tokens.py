from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.client.errors import TokenUnavailable
from sluicegate.client.tokens import MAX_TOKEN_BYTES, CallableToken, FileToken, StaticToken

NO_TOKENS = ["", " ", "to ken", "to\nken", "to\r\nx-admin: 1", "tökén", "=token", "a" * (MAX_TOKEN_BYTES + 1)]
ACCEPTED_TEXTS = ("the static token has no token", "the static token has something else than a bearer token")


@pytest.mark.parametrize("text", NO_TOKENS)
def test_what_cannot_be_a_bearer_token_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(TokenUnavailable) as caught:
        StaticToken(text)

    assert str(caught.value) in ACCEPTED_TEXTS


async def test_a_static_token_is_given_each_time() -> None:
    source = StaticToken("abc.def.ghi")

    source.forget("abc.def.ghi")

    assert await source.token() == "abc.def.ghi"


async def test_a_token_file_is_read_for_each_call(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    source = FileToken(file)
    first = await source.token()

    file.write_text("second")

    assert (first, await source.token()) == ("first", "second")


async def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenUnavailable, match=r"absent cannot be read: No such file"):
        await FileToken(tmp_path / "absent").token()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"two words", b"a" * (MAX_TOKEN_BYTES + 1)])
async def test_a_token_file_with_something_else_is_not_quoted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)

    with pytest.raises(TokenUnavailable) as caught:
        await FileToken(str(file)).token()

    assert "two words" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_function_is_asked_each_time_sync_or_async() -> None:
    given = iter(["one", "two"])

    async def asynchronous() -> str:
        return next(given)

    assert await CallableToken(lambda: next(given)).token() == "one"
    assert await CallableToken(asynchronous).token() == "two"


async def test_a_sync_function_that_gives_an_awaitable_is_awaited() -> None:
    async def later() -> str:
        return "late"

    def give() -> str:
        return later()  # type: ignore[return-value]

    assert await CallableToken(give).token() == "late"


def raising(error: Exception) -> Callable[[], str]:
    def give() -> str:
        raise error

    return give


async def test_a_function_that_fails_is_reported_without_its_text() -> None:
    with pytest.raises(TokenUnavailable, match=r"^the token function failed: RuntimeError$"):
        await CallableToken(raising(RuntimeError("secret"))).token()


async def test_a_function_s_own_token_error_passes_through() -> None:
    refused = TokenUnavailable("vault is sealed")

    with pytest.raises(TokenUnavailable) as caught:
        await CallableToken(raising(refused)).token()

    assert caught.value is refused


async def test_a_function_that_gives_no_text_has_no_token() -> None:
    def give() -> str:
        return None  # type: ignore[return-value]

    with pytest.raises(TokenUnavailable, match="the token function has no token"):
        await CallableToken(give).token()
