"""A web server on the loopback that gives files the way real ones do, and fails the way real ones do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Served(msgspec.Struct):
    """A file and how it is given."""

    body: bytes
    etag: str = '"one"'
    kind: str = "application/octet-stream"
    ranges: bool = True
    told_length: bool = True
    cuts: list[int] = []  # each request breaks off after so many bytes, as long as there are any
    failures: list[int] = []  # status codes of the first requests
    requests: list[str] = []  # the Range of each GET, "" without


class FileServer:
    """`files` by path; `hub` has the paths that answer like the Hugging Face Hub and lead to a file."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Served] = {}
        self.hub: dict[str, str] = {}

    def give(self, path: str, body: bytes, **how: Any) -> str:
        """Serve these bytes; returns the address."""
        self.files[path] = Served(body, **how)
        return f"{self.address}{path}"

    def on_hub(self, repository: str, file: str, body: bytes, **how: Any) -> None:
        """Serve a file as the Hub does: its address leads to another one, whose etag is the checksum."""
        self.give(f"/cdn/{file}", body, **how)
        self.hub[f"/{repository}/resolve/main/{file}"] = f"/cdn/{file}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Runs one until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            target = known.hub.get(self.path)
            if target is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = known.files[target].body
            self.send_response(302)
            # Another host: what stays on the Hub's own is followed by its library.
            self.send_header("Location", f"http://localhost:{server.server_port}{target}")
            self.send_header("X-Repo-Commit", "c0ffee")
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            served = known.files.get(self.path)
            if served is None:
                self._status(404)
                return
            asked = self.headers.get("Range", "")
            served.requests.append(asked)
            if served.failures:
                self._status(served.failures.pop(0))
                return
            same = self.headers.get("If-Range", served.etag) == served.etag
            start = int(asked[6:-1]) if asked and served.ranges and same else 0
            if start >= len(served.body) and start:
                self._status(416)
                return
            rest = served.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
            if served.told_length:
                self.send_header("Content-Length", str(len(rest)))
            else:
                self.close_connection = True
            self.send_header("Content-Type", served.kind)
            if served.etag:
                self.send_header("ETag", served.etag)
            self.end_headers()
            if served.cuts:
                rest = rest[: served.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(rest)

        def _status(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A visitor that hangs up, as it is to in these tests."""

    server = Quiet(("127.0.0.1", 0), Handler)
    known = FileServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
