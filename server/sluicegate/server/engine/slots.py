"""The slots of a model's KV cache: who holds them, and which prompts those that are free still know.

Prefix reuse: a slot that was given back keeps its keys and values until somebody needs it, and so do the positions
that a running sequence has fed. A prompt that begins with the same tokens begins with them. It does so only under the
same salt: how soon a first token comes tells whether a prompt's beginning was known, and nobody may learn that of
another's prompts (Gu et al. 2025, "Auditing Prompt Caching in Language Model APIs").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import compress, count, islice
from operator import ne

from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.sequence import Sequence

# A step reads at least so much of a prompt in any case (scheduler.py), so that a shorter prefix saves no step.
MINIMUM_PREFIX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a free slot knows: its first `length` positions were fed with the first of `tokens`, under `salt`."""

    salt: str
    tokens: Items[int]
    length: int


class Slots:
    """Hands out slots. Every `Runner.open`, `close` and `copy` is called here and nowhere else."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._count = runner.facts.slots
        self._empty = list(reversed(range(self._count)))  # free, of no use to anybody; a stack: low numbers stay in use
        self._kept: dict[int, Prefix] = {}  # free, but with a prefix; the least recently used first
        self._owners: dict[int, Sequence] = {}

    @property
    def count(self) -> int:
        """Slots there are."""
        return self._count

    @property
    def free(self) -> int:
        """Slots that no sequence holds."""
        return len(self._empty) + len(self._kept)

    @property
    def owners(self) -> Collection[Sequence]:
        """Sequences that hold a slot."""
        return self._owners.values()

    def take(self, sequence: Sequence) -> None:
        """Give a sequence a slot, with what is known of its prompt; there must be a free one.

        A free slot that knows most is taken over as it is, even if its text goes on otherwise: that costs nothing, and
        prompts that begin alike do not fill all slots with their common beginning. Of a running sequence it is copied.
        If the runner refuses to open the slot, it stays free.
        """
        source, length = self._longest_prefix(sequence)
        slot = source if source in self._kept else self._next_free()
        request = sequence.request
        self._runner.open(slot, request.sampling, sequence.candidate, sequence.tokens)
        if self._kept.pop(slot, None) is None:
            self._empty.pop()
        self._owners[slot] = sequence
        sequence.slot = slot
        if source is not None:
            if source != slot:
                self._runner.copy(source, slot, length)
            sequence.cached = length

    def share(self, source: Sequence, target: Sequence, length: int) -> None:
        """Give `target` the first `length` cached positions of `source`."""
        assert source.slot is not None
        assert target.slot is not None
        if length:
            self._runner.copy(source.slot, target.slot, length)
        target.cached = length
        target.follows = False

    def release(self, sequence: Sequence, *, is_sound: bool) -> None:
        """Take a sequence's slot back. What is in one that is not sound is used by nobody."""
        slot, sequence.slot = sequence.slot, None
        assert slot is not None
        del self._owners[slot]
        salt = sequence.request.cache_salt
        if is_sound and salt and sequence.cached >= MINIMUM_PREFIX_TOKENS:
            self._kept[slot] = Prefix(salt, sequence.tokens, sequence.cached)
        else:
            self._empty.append(slot)
        self._runner.close(slot)

    def _next_free(self) -> int:
        """The free slot whose loss matters least."""
        return self._empty[-1] if self._empty else next(iter(self._kept))

    def _longest_prefix(self, sequence: Sequence) -> tuple[int | None, int]:
        """The slot that knows most of a sequence's prompt, and how many tokens; None if none knows enough.

        Never the whole prompt: the next token is drawn from its last token's logits, so that one is fed. A sequence
        that follows gets its prompt from its leader.
        """
        salt, prompt = sequence.request.cache_salt, sequence.tokens
        best, longest = None, MINIMUM_PREFIX_TOKENS - 1
        if salt and not sequence.follows:
            for slot, tokens, known in self._prefixes(salt):
                usable = min(known, len(prompt) - 1)
                # One comparison tells for almost all slots that they do not know more than the best so far.
                if usable > longest and tokens[longest] == prompt[longest]:
                    length = _common_length(prompt, tokens, usable)
                    if length > longest:
                        best, longest = slot, length
        return best, longest

    def _prefixes(self, salt: str) -> Iterator[tuple[int, Items[int], int]]:
        """Slots with tokens that were fed under a salt, and how many were; free ones first, for those need no copy."""
        for slot, prefix in self._kept.items():
            if prefix.salt == salt:
                yield slot, prefix.tokens, prefix.length
        for slot, owner in self._owners.items():
            if owner.request.cache_salt == salt:
                yield slot, owner.tokens, owner.cached

    def check(self) -> None:
        """Raise AssertionError unless every slot is free or held by exactly one live sequence."""
        every = sorted([*self._empty, *self._kept, *self._owners])
        assert every == list(range(self._count)), "slots are leaked or doubled"
        for slot, sequence in self._owners.items():
            assert sequence.slot == slot, "a slot's owner holds another slot"
            assert sequence.in_flight or not sequence.ended, "an ended sequence holds a slot"
        assert all(prefix.salt for prefix in self._kept.values()), "a prefix without a salt is kept"


def _common_length(prompt: Items[int], tokens: Items[int], limit: int) -> int:
    """How many of the first `limit` tokens are the same."""
    return next(compress(count(), map(ne, prompt, islice(tokens, limit))), limit)
