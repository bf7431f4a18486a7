"""The slots of a model's KV cache and who holds them."""

from __future__ import annotations

from collections.abc import Collection

from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.sequence import Sequence


class Slots:
    """Hands out slots. Every `Runner.open` and its `Runner.close` is called here and nowhere else."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._count = runner.facts.slots
        self._free = list(reversed(range(self._count)))  # a stack: low numbers stay in use
        self._owners: dict[int, Sequence] = {}

    @property
    def count(self) -> int:
        """Slots there are."""
        return self._count

    @property
    def free(self) -> int:
        """Slots that no sequence holds."""
        return len(self._free)

    @property
    def owners(self) -> Collection[Sequence]:
        """Sequences that hold a slot."""
        return self._owners.values()

    def take(self, sequence: Sequence) -> None:
        """Give a sequence a slot; there must be a free one. If the runner refuses, the slot stays free."""
        slot = self._free[-1]
        request = sequence.request
        self._runner.open(slot, request.sampling, sequence.candidate, sequence.tokens)
        self._free.pop()
        self._owners[slot] = sequence
        sequence.slot = slot

    def share(self, source: Sequence, target: Sequence, length: int) -> None:
        """Give `target` the first `length` cached positions of `source`."""
        assert source.slot is not None
        assert target.slot is not None
        if length:
            self._runner.copy(source.slot, target.slot, length)
        target.cached = length
        target.follows = False

    def release(self, sequence: Sequence) -> None:
        """Take a sequence's slot back."""
        assert sequence.slot is not None
        del self._owners[sequence.slot]
        self._free.append(sequence.slot)
        slot, sequence.slot = sequence.slot, None
        self._runner.close(slot)

    def check(self) -> None:
        """Raise AssertionError unless every slot is free or held by exactly one live sequence."""
        assert sorted([*self._free, *self._owners]) == list(range(self._count)), "slots are leaked or doubled"
        for slot, sequence in self._owners.items():
            assert sequence.slot == slot, "a slot's owner holds another slot"
            assert not sequence.ended, "an ended sequence holds a slot"
