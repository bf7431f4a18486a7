"""Where a number begins and ends."""

from __future__ import annotations

_JOINTS = b".,-"
JOINT = b"[" + _JOINTS + b"]"
"""What continues a number if a digit follows."""
_DIGITS = b"0123456789"


def stands_alone(window: bytes, start: int, end: int) -> bool:
    """Whether window[start:end] is a whole, and not a part of a longer word, decimal fraction or part number."""
    before, after = window[max(start - 2, 0) : start], window[end : end + 2]
    is_continued = after[:1].isalnum() or after[:1] == b"_" or _joins(after[:1], after[1:])
    if not window[start : start + 1].isalnum():  # + and ( begin something new
        return not is_continued
    return not (is_continued or before[-1:].isalnum() or before[-1:] == b"_" or _joins(before[-1:], before[-2:-1]))


def shortened(window: bytes, start: int, end: int, times: int) -> list[int]:
    """Ends of a number in groups: `end`, and then without its last group, up to `times` times."""
    ends = [end]
    for _ in range(times):
        while end > start and window[end - 1] in _DIGITS:
            end -= 1
        while end > start and window[end - 1] not in _DIGITS:
            end -= 1
        if end <= start:
            break
        ends.append(end)
    return ends


def _joins(joint: bytes, neighbour: bytes) -> bool:
    return joint != b"" and joint in _JOINTS and neighbour.isdigit()
