"""Faults of networks and stores: a server between a client and an S3 server."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from isocenter.services.archive.object_location import ObjectLocation

#: What becomes of a request, by its method and path: None: it is passed on.
#: ``lose``: it is passed on, and the answer is lost; ``drop``: the connection breaks before;
#: ``forget``: it is answered with success and not passed on; a status and a code of S3: so it is
#: answered; an event: it is passed on when that is set, if the client still waits or not.
Fault = None | str | tuple[int, str] | threading.Event
Decide = Callable[[str, str], Fault]


class FaultyBucket:
    """A bucket with faults.

    Attributes:
        decide: what becomes of each request.
        requests: method and path of all that came; *headers*: the names of theirs.
    """

    def __init__(self, location: ObjectLocation, port: int) -> None:
        self.location = replace(
            location, parameters={**location.parameters, "endpoint": f"http://127.0.0.1:{port}"}
        )
        self.decide: Decide = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.headers: set[str] = set()

    def fail(self, fault: Fault, *methods: str, times: int = 1_000_000) -> None:
        """The next requests with these methods, of objects and not of probes."""
        left = times

        def decide(method: str, path: str) -> Fault:
            nonlocal left
            if method not in methods or left <= 0 or "/probe/" in path:
                return None
            left -= 1
            return fault

        self.decide = decide


@contextmanager
def faulty_bucket(location: ObjectLocation) -> Iterator[FaultyBucket]:
    """*location* by way of a server with faults."""
    target = urlsplit(location.parameters["endpoint"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bucket.requests.append((self.command, self.path))
            bucket.headers.update(name.lower() for name in self.headers)
            fault = bucket.decide(self.command, self.path)
            if isinstance(fault, threading.Event):
                fault.wait(60)
            elif fault == "drop":
                self.close_connection = True
                return
            elif fault == "forget":
                self._answer(200, b"", [("ETag", '"0"')])
                return
            elif isinstance(fault, tuple):
                status, code = fault
                text = f"<Error><Code>{code}</Code><Region>eu-north-1</Region></Error>"
                self._answer(status, text.encode(), [("Content-Type", "application/xml")])
                return
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault == "lose":
                self.close_connection = True
                return
            kept = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "date", "server")
                and (self.command == "HEAD" or name.lower() != "content-length")
            ]
            self._answer(answer.status, content, kept)

        def _answer(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
            try:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the client has given up

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        bucket = FaultyBucket(location, server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
