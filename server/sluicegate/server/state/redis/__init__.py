"""The store of several hosts: one Redis, asked in Lua scripts. The only home of redis-py."""

from sluicegate.server.state.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
