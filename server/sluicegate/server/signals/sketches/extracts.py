"""What replicas tell each other of a partner, as bytes in the state store.

Nothing of these bytes is trusted: their form, their lengths and their number are checked before they are used, and they
become arrays of numbers, nothing else. A replica that lies can falsify figures; it cannot stop another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches.campaigns import CLUSTERS, CampaignExtract
from sluicegate.server.signals.sketches.distinct import DistinctExtract
from sluicegate.server.signals.sketches.errors import ExtractInvalid
from sluicegate.server.signals.sketches.hyperloglog import REGISTERS
from sluicegate.server.signals.sketches.recent import SHARED as SHARED_PRINTS
from sluicegate.server.signals.sketches.recent import RecentExtract
from sluicegate.server.signals.sketches.sharing import SHARED as SHARED_PAIRS
from sluicegate.server.signals.sketches.sharing import SharingExtract
from sluicegate.server.signals.sketches.windows import HOURS, PARTS, Moment

FORM = 1
"""Of the bytes; those of another form are refused."""
_RECENT = (("<u4", PARTS), ("<u4", PARTS), ("<u4", PARTS), ("<u8", SHARED_PRINTS), *[("<u4", SHARED_PRINTS)] * 2)
_CAMPAIGNS = (("<u4", PARTS), ("<u8", CLUSTERS), ("<u2", CLUSTERS * PARTS))
_DISTINCT = (("<u4", HOURS), ("u1", HOURS * REGISTERS))
_SHARING = (("<u8", SHARED_PAIRS), ("<u4", SHARED_PAIRS), ("<u4", SHARED_PAIRS))
_COLUMNS = (*_RECENT, *_RECENT, *_CAMPAIGNS, *_DISTINCT, *_SHARING)
"""The numbers' form and their greatest count, of each array of an Extract in the order of its fields."""
LARGEST_BYTES = sum(np.dtype(form).itemsize * most for form, most in _COLUMNS) + 256
"""Of an extract: 58 KiB, of which the last is more than msgpack adds."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(
    tuple[int, Annotated[list[bytes], msgspec.Meta(min_length=len(_COLUMNS), max_length=len(_COLUMNS))]]
)


@dataclass(frozen=True, slots=True)
class Extract:
    """What one replica has seen of one partner within the windows."""

    prompts: RecentExtract
    outputs: RecentExtract
    campaigns: CampaignExtract
    distinct: DistinctExtract
    sharing: SharingExtract

    def is_over(self, moment: Moment) -> bool:
        """Whether nothing of it lies within the windows any more."""
        parts = (self.prompts.parts, self.prompts.last, self.outputs.parts, self.outputs.last, self.campaigns.parts)
        hours = (self.distinct.hours, self.sharing.hours)
        return not any(moment.has_part(each).any() for each in parts) and not any(
            moment.has_hour(each).any() for each in hours
        )


def encode(extract: Extract) -> bytes:
    """An extract as bytes, at most LARGEST_BYTES of them."""
    arrays = [
        *_recent_arrays(extract.prompts),
        *_recent_arrays(extract.outputs),
        extract.campaigns.parts,
        extract.campaigns.leaders,
        extract.campaigns.counts,
        extract.distinct.hours,
        extract.distinct.registers,
        extract.sharing.tokens,
        extract.sharing.networks,
        extract.sharing.hours,
    ]
    columns = [array.astype(form).tobytes() for array, (form, _) in zip(arrays, _COLUMNS, strict=True)]
    return _ENCODER.encode((FORM, columns))


def decode(data: bytes) -> Extract:
    """The extract of bytes that `encode` wrote; its arrays cannot be written. Raises ExtractInvalid for others."""
    if len(data) > LARGEST_BYTES:
        raise ExtractInvalid(f"longer than {LARGEST_BYTES} bytes")
    try:
        form, columns = _DECODER.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise ExtractInvalid("not of the form of an extract") from None
    if form != FORM:
        raise ExtractInvalid("of a form that another release writes")
    arrays = [_array(column, form, most) for column, (form, most) in zip(columns, _COLUMNS, strict=True)]
    parts, leaders, counts = arrays[12:15]
    hours, registers = arrays[15:17]
    _check_lengths(counts.size == len(leaders) * len(parts), registers.size == len(hours) * REGISTERS)
    return Extract(
        _recent(arrays[:6]),
        _recent(arrays[6:12]),
        CampaignExtract(parts, leaders, counts.reshape(len(leaders), len(parts))),
        DistinctExtract(hours, registers.reshape(len(hours), REGISTERS)),
        _sharing(arrays[17:]),
    )


def _recent_arrays(extract: RecentExtract) -> tuple[NDArray[Any], ...]:
    return (extract.parts, extract.seen, extract.repeated, extract.prints, extract.born, extract.last)


def _recent(arrays: list[NDArray[Any]]) -> RecentExtract:
    parts, seen, repeated, prints, born, last = arrays
    _check_lengths(len(parts) == len(seen) == len(repeated), len(prints) == len(born) == len(last))
    return RecentExtract(parts, seen, repeated, prints, born, last)


def _sharing(arrays: list[NDArray[Any]]) -> SharingExtract:
    tokens, networks, hours = arrays
    _check_lengths(len(tokens) == len(networks) == len(hours))
    return SharingExtract(tokens, networks, hours)


def _array(column: bytes, form: str, most: int) -> NDArray[Any]:
    if len(column) % np.dtype(form).itemsize or len(column) > np.dtype(form).itemsize * most:
        raise ExtractInvalid("an array has a length that it cannot have")
    return np.frombuffer(column, form)


def _check_lengths(*are_right: bool) -> None:
    if not all(are_right):
        raise ExtractInvalid("arrays that belong together have different lengths")
