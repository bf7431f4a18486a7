"""A disk that fails or hangs under the audit log."""

from __future__ import annotations

import errno
import os
import threading

import pytest


class FailingDisk:
    """Every sync of data fails with ENOSPC until it is `mended`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)

    def _fdatasync(self, descriptor: int) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._sync(descriptor)


class HungDisk:
    """Holds every sync of data back while it `is_hung`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_asked = threading.Event()
        self._may_go = threading.Event()
        self._may_go.set()
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)

    def hang(self) -> None:
        self.is_asked.clear()
        self._may_go.clear()

    def let_go(self) -> None:
        self._may_go.set()

    def _fdatasync(self, descriptor: int) -> None:
        self.is_asked.set()
        self._may_go.wait()
        self._sync(descriptor)
