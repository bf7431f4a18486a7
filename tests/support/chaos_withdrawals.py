"""Doors that an operator closes while a site is under chaos, and callers who try them for ever after."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import grpc
from chaos_site import PUBLIC_MODEL, STALE_SECONDS, Site, ask_for_a_token, reason_of
from deployment import EVAL_TEAM, ISSUER
from fleet import Replica

from sluicegate.client import CallError, Client, ClientTarget

SLACK_SECONDS = 1.0
TRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Closed:
    """A client whose access was withdrawn, as a replica has confirmed."""

    client: str
    id: str
    at: float
    """`time.monotonic()` of the confirmation."""


class Doors:
    """Closes one client's door after the other. `passed` has who came through a closed one: there must be nobody."""

    def __init__(self, site: Site, draws: random.Random) -> None:
        self.closed: list[Closed] = []
        self.passed: list[tuple[Closed, str]] = []
        self._site = site
        self._draws = draws
        self._orders = 0

    async def close_one(self) -> None:
        """Order it at one replica after the other, until one confirms it. If none does, nobody knows of the door."""
        self._orders += 1
        client = f"guest-{self._orders}"
        for replica in self._draws.sample(self._site.replicas, k=len(self._site.replicas)):
            try:
                async with Client(replica.address, token=self._site.token(EVAL_TEAM), timeout=10) as operator:
                    withdrawal = await operator.create_withdrawal(ClientTarget(ISSUER, client), "A drill.")
            except CallError:
                continue
            self.closed.append(Closed(client, withdrawal.id, time.monotonic()))
            return

    async def try_for_ever(self) -> None:
        """Try closed doors, each from the time on at which every replica must know of it or refuse all."""
        while True:
            await asyncio.sleep(TRY_SECONDS)
            known = time.monotonic() - STALE_SECONDS - SLACK_SECONDS
            doors = [each for each in self.closed if each.at < known]
            if doors:
                door, replica = self._draws.choice(doors), self._draws.choice(self._site.replicas)
                if await self.answer(door.client, replica) is None:
                    self.passed.append((door, replica.name))

    async def answer(self, client: str, replica: Replica) -> str | None:
        """Why a replica refuses a client; None if it serves it."""
        try:
            await ask_for_a_token(replica, PUBLIC_MODEL, self._site.token(client))
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return None

    async def listed(self, replica: Replica) -> set[str]:
        """The ids of what a replica says is closed."""
        async with Client(replica.address, token=self._site.token(EVAL_TEAM)) as operator:
            return {each.id for each in await operator.list_withdrawals()}
