"""Structured logs on standard error. The only home of structlog's configuration.

Events are short names, facts are key-value pairs. Never a prompt, an output, a token, an address or a raw subject: code
that logs passes ids, reasons and figures only. Of an exception only types and places are written: its text is its
author's, and a library's may quote what it was given.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
STYLES = ("json", "console")
MOST_CAUSES = 8
MOST_FRAMES = 12  # of one exception, the innermost


def configure(level: str, style: str) -> None:
    """Set up structlog for this process: `style` is `json` (one object a line) or `console` (for people)."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _name_exception,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_BareFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Lines:
    """Writes line after line. One that cannot be written (a full disk, a reader that has gone) is lost.

    A log must not fail what it tells of: no call would end as it did, and SIGTERM would not drain.
    """

    def __init__(self, file: TextIO) -> None:
        self._printer = structlog.PrintLogger(file)

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the file is closed
            self._printer.msg(line)

    debug = info = warning = error = msg


class _BareFormatter(logging.Formatter):
    """Libraries' own records (grpc, asyncio): warnings and errors, their exceptions as ours."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return where(ei[1])


def _name_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """structlog's `exc_info` as the exception's types and places."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given is True else None
    if isinstance(given, tuple):
        error = given[1]
    if error is not None:
        event["exception"] = where(error)
    return event


def where(error: BaseException | None) -> str:
    """Type and place of an exception and of those that caused it, the cause first, without a word of their texts."""
    parts: list[str] = []
    while error is not None and len(parts) < MOST_CAUSES:
        frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
        parts.append(f"{type(error).__name__} at {places or 'an unknown place'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "; then ".join(reversed(parts))
