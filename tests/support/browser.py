"""A page in headless Chromium: served from here, given what to do, and heard out."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from foreign import NODE_MODULES, ROOT

PAGE = ROOT / "tests/e2e"
DESCRIPTORS = ROOT / "helm/sluicegate/files/envoy/descriptors.binpb"
PACKAGES = ("@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web")
SECONDS = 60.0
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript"}


class Site:
    """The page at an origin of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        told = self._told

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = _file(self.path)
                self.send_response(HTTPStatus.OK if body is not None else HTTPStatus.NOT_FOUND)
                suffix = Path(self.path).suffix if self.path != "/" else ".html"
                self.send_header("content-type", TYPES.get(suffix, "application/octet-stream"))
                self.end_headers()
                self.wfile.write(body or b"")

            def do_POST(self) -> None:
                told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def visit(self, **asked: object) -> dict[str, Any]:
        """What the page tells after it has done what is asked of it."""
        program = shutil.which("chromium")
        assert program is not None, "chromium is not installed: run `make e2e`"
        flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        # Its sandbox is not for root, and the page is ours.
        flags += ["--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={self._directory / 'profile'}"]
        with (self._directory / "chromium.log").open("wb") as log:
            browser = subprocess.Popen(
                [program, *flags, f"{self.origin}/#{quote(json.dumps(asked))}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # to end all its processes at once
            )
            try:
                return self._told.get(timeout=SECONDS)
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """The page, until the context ends."""
    opened = Site(directory)
    try:
        yield opened
    finally:
        opened.close()


def _file(path: str) -> bytes | None:
    if path == "/":
        imports = json.dumps({"imports": _imports()})
        return (PAGE / "page.html").read_text().replace("IMPORTS", imports).encode()
    if path == "/page.mjs":
        return (PAGE / "page.mjs").read_bytes()
    if path == "/descriptors.binpb":
        return DESCRIPTORS.read_bytes()
    file = (NODE_MODULES / path.removeprefix("/modules/")).resolve()
    return file.read_bytes() if file.is_relative_to(NODE_MODULES.resolve()) and file.is_file() else None


def _imports() -> dict[str, str]:
    """Where each name that is imported is, as the packages say: browsers do not look into package.json."""
    found = {}
    for package in PACKAGES:
        exported = json.loads((NODE_MODULES / package / "package.json").read_text())["exports"]
        for name, ways in exported.items():
            found[package + name.removeprefix(".")] = f"/modules/{package}/{ways['import'].removeprefix('./')}"
    return found
