"""What is looked for in the calls that are served, to see misuse: docs/signals.md says what each signal means.

The event loop only hands over what passes: a prompt when its call starts, an output some dozens of tokens at a time.
Everything else is done by the watcher's thread. No call waits for it, and no text outlives its call.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

from sluicegate.auth import Grant
from sluicegate.server.caller import Caller
from sluicegate.server.limiters import Networks
from sluicegate.server.looking import GenerationLook, Looking, Piece
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.request import Prompt
from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.signals.watcher import Watcher
from sluicegate.server.tokenizer import Tokenizer

PIECE_TOKENS = 64
"""Tokens of one candidate that are handed over together."""
TOLD_SECONDS = 600.0
"""A token that is used on the same network again is told of no sooner than after this."""
MOST_TOLD = 65_536
"""Pairs of token and network that are remembered for that."""


class Observation(Protocol):
    """One generation, as it is watched. Event loop only."""

    wants_logprobs: bool
    """Whether the log-probability of each output token is wanted."""

    def begin(self) -> None:
        """The call is served: its prompt counts."""

    def add(self, candidate: int, text: str, logprob: float | None) -> None:
        """A token has come, and completed these characters; what of them a stop sequence holds back counts too."""


class Monitor(Protocol):
    """What watches calls. Event loop only."""

    def generation(
        self, grant: Grant, prompt: Prompt, tokenizer: Tokenizer, candidates: int
    ) -> AbstractContextManager[Observation]:
        """Watch a generation while the context is open, however it is left."""

    def allowed(self, caller: Caller, grant: Grant) -> None:
        """A call was allowed."""


class Unwatched:
    """Watches nothing: where the settings have signals off."""

    wants_logprobs = False

    @contextmanager
    def generation(self, *_: object) -> Iterator[Observation]:
        yield self

    def allowed(self, *_: object) -> None: ...

    def begin(self) -> None: ...

    def add(self, *_: object) -> None: ...


class Monitoring:
    """Watches the calls of this process. One for the process; event loop only."""

    def __init__(
        self,
        watcher: Watcher,
        sketches: Sketches,
        looking: Looking,
        metrics: Metrics,
        *,
        networks: Networks,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives Unix seconds."""
        self._watcher = watcher
        self._sketches = sketches
        self._looking = looking
        self._metrics = metrics
        self._networks = networks
        self._clock = clock
        self._told: OrderedDict[tuple[str, str, tuple[int, int]], float] = OrderedDict()

    @contextmanager
    def generation(self, grant: Grant, prompt: Prompt, tokenizer: Tokenizer, candidates: int) -> Iterator[Observation]:
        """Watch a generation while the context is open, however it is left."""
        partner, model = self._metrics.partner(grant.partner), self._metrics.model(grant.model)
        look = self._looking.generation(partner, model, prompt, tokenizer, candidates=candidates)
        watched = _Generation(self._put, look, candidates, with_logprobs=self._looking.with_memorisation)
        try:
            yield watched
        finally:
            watched.end()

    def allowed(self, caller: Caller, grant: Grant) -> None:
        """A call was allowed: tell on which network its token was used."""
        principal, address = caller.principal, caller.peer.address
        if principal.anonymous or address is None:
            return
        network, now = self._networks.of(address), self._clock()
        use = (principal.issuer, principal.token_id, network)
        if 0 <= now - self._told.get(use, -math.inf) < TOLD_SECONDS:
            return
        partner, token = self._metrics.partner(grant.partner), f"{principal.issuer}\n{principal.token_id}".encode()
        if self._watcher.put(partial(self._sketches.see_token, partner, token, repr(network).encode(), now)):
            self._told[use] = now
            self._told.move_to_end(use)
            if len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
        else:
            self._metrics.signals.take_dropped("token")

    def _put(self, kind: str, work: Callable[[], None]) -> None:
        """Have the thread do it, or count that it is too far behind for it."""
        if not self._watcher.put(work):
            self._metrics.signals.take_dropped(kind)


class _Generation:
    """The observation of one generation."""

    def __init__(
        self,
        put: Callable[[str, Callable[[], None]], None],
        look: GenerationLook,
        candidates: int,
        *,
        with_logprobs: bool,
    ) -> None:
        self.wants_logprobs = with_logprobs
        self._put = put
        self._look = look
        self._pieces: list[list[Piece]] = [[] for _ in range(candidates)]
        self._has_begun = False

    def begin(self) -> None:
        self._has_begun = True
        self._put("prompt", self._look.see_prompt)

    def add(self, candidate: int, text: str, logprob: float | None) -> None:
        pieces = self._pieces[candidate]
        pieces.append((text, logprob))
        if len(pieces) >= PIECE_TOKENS:
            self._hand_over(candidate)

    def end(self) -> None:
        """Hand over what is left; nothing follows."""
        if self._has_begun:
            for candidate in range(len(self._pieces)):
                self._hand_over(candidate)
            self._put("output", self._look.end)

    def _hand_over(self, candidate: int) -> None:
        pieces, self._pieces[candidate] = self._pieces[candidate], []
        self._put("output", partial(self._look.feed, candidate, pieces))
