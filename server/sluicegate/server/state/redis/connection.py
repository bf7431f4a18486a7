"""The connection to Redis: what is required of the server, its scripts, and how long an answer may take.

Redis 6.2 or later. Where the server has access control lists, the user needs `~{sluicegate}:*` and `+evalsha
+script|load +config|get +get +set +time +hmget +hgetall +hset +hdel +hvals +pexpire +lpos +lindex +llen +rpush +zadd
+zcard +zrem +zrangebyscore +zrevrangebylex`, and nothing else.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import TypeVar, cast

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoPermissionError, ReadOnlyError, RedisError, ResponseError

from sluicegate.server.state.errors import StateUnavailable, StoreUnsuitable

ANSWER_SECONDS = 0.5
"""How long one answer may take, and how long connecting may."""
CALL_SECONDS = 2.0
"""For one call with all it needs, of which the wait for a free connection is the part that grows with load."""
CONNECTIONS = 64
"""Redis syncs its file once for all commands that it finds waiting, so more connections make fewer syncs."""
LEDGER_SCRIPTS = ("reserve", "renew", "settle", "usage")
OTHER_SCRIPTS = (
    "withdraw",
    "lift",
    "read",
    "anchor",
    "anchors",
    "salt",
    "put_sketches",
    "sketches",
    "file_finding",
    "finding",
    "findings",
    "review_finding",
)

# Withdrawals must outlive a crash of the server, and neither may memory pressure push out what was booked.
REQUIRED = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

Reply = Sequence[str | int]
_Result = TypeVar("_Result")


class Scripts:
    """The Lua scripts of one server. Event loop only. Connections are made as needed and made anew after a failure."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client
        own = files(__package__)
        books = own.joinpath("books.lua").read_text(encoding="utf-8")
        texts = {name: own.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in LEDGER_SCRIPTS}
        texts = {name: books + text for name, text in texts.items()}
        texts |= {name: own.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in OTHER_SCRIPTS}
        self._scripts = {name: client.register_script(text) for name, text in texts.items()}

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Reply:
        """The script's reply. Raises StateUnavailable."""
        return cast(Reply, await _in_time(self._scripts[name](keys=keys, args=arguments)))

    async def close(self) -> None:
        await self._client.aclose()


async def connect(url: str, identity_key: str) -> tuple[Scripts, str]:
    """The scripts of a server that keeps what it is told, and the identity of the store there, made if there is none.

    Raises StoreUnsuitable or StateUnavailable.
    """
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=CALL_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        decode_responses=True,
        protocol=2,
        # Once more, where the server has been restarted since the connection was made: every script may run twice.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    client = aioredis.Redis.from_pool(pool)
    try:
        await _check(client)
        await _make(client, identity_key)
        identity = await _in_time(client.get(identity_key))
        return Scripts(client), str(identity)
    except BaseException:
        await client.aclose()
        raise


async def _check(client: aioredis.Redis) -> None:
    for setting, required in REQUIRED.items():
        found = (await _config(client, setting)).get(setting)
        if found != required:
            raise StoreUnsuitable(
                f"redis: {setting} is {found}, and must be {required}: a Redis that forgets opens what was withdrawn"
            )


async def _make(client: aioredis.Redis, identity_key: str) -> None:
    """Give the store an identity if it has none. Our keys lie in one slot, so of a cluster one server has them all."""
    try:
        await _in_time(client.set(identity_key, uuid.uuid4().hex, nx=True))
    except StateUnavailable as error:
        match error.__cause__:
            case MovedError(host=host, port=port):
                raise StoreUnsuitable(
                    f"redis: another server of this cluster has the keys {{sluicegate}}:*; name it: {host}:{port}"
                ) from error
            case ReadOnlyError():
                raise StoreUnsuitable(
                    "redis: this server is a replica, which takes no change; name its master"
                ) from error
        raise


async def _config(client: aioredis.Redis, setting: str) -> dict[str, str]:
    try:
        return cast(dict[str, str], await _in_time(client.config_get(setting)))
    except StateUnavailable as error:
        if isinstance(error.__cause__, NoPermissionError) or (
            isinstance(error.__cause__, ResponseError) and "unknown command" in str(error.__cause__)
        ):
            raise StoreUnsuitable(f"redis: {setting} cannot be checked: this user needs CONFIG GET") from error
        raise


async def _in_time(call: Awaitable[_Result]) -> _Result:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            return await call
    except TimeoutError:
        raise StateUnavailable(f"redis: no answer in {CALL_SECONDS} s") from None
    except (RedisError, OSError) as error:
        raise StateUnavailable(f"redis: {error}") from error
