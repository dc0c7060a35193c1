"""A webhook of somebody else's: Python's own HTTP server, which checks the signature by itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "of the webhook"
SECONDS = 120.0


@dataclass(frozen=True)
class Delivery:
    """What came."""

    path: str
    headers: Message
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def is_signed(self) -> bool:
        text = self.headers["Isocenter-Timestamp"].encode() + b"." + self.body
        signature = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
        return self.headers["Isocenter-Signature"] == f"sha256={signature}"


class Hook:
    """What it was told, in order; *status* decides what it answers."""

    def __init__(self) -> None:
        self.status: Callable[[dict[str, Any]], int] = lambda event: 204
        self.headers: dict[str, str] = {}
        self.body = b""
        #: Whether its answers go on until nobody listens any more.
        self.is_endless = False
        self.url = ""
        self._came = threading.Condition()
        self._deliveries: list[tuple[Delivery, int]] = []

    def take(self, delivery: Delivery) -> int:
        status = self.status(delivery.event)
        with self._came:
            self._deliveries.append((delivery, status))
            self._came.notify_all()
        return status

    @property
    def all(self) -> list[Delivery]:
        """Also those that it refused."""
        with self._came:
            return [delivery for delivery, _ in self._deliveries]

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """The events that it took."""
        with self._came:
            return [each.event for each, status in self._deliveries if 200 <= status < 300]

    def wait(self, is_enough: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """Until the events that it took are enough."""
        with self._came:
            there = self._came.wait_for(lambda: is_enough(self._accepted()), SECONDS)
            assert there, [event["kind"] for event in self._accepted()]
            return self._accepted()

    def _accepted(self) -> list[dict[str, Any]]:
        return [each.event for each, status in self._deliveries if 200 <= status < 300]

    def wait_for_attempts(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self._deliveries) >= count, SECONDS)


@contextmanager
def webhook(port: int = 0) -> Iterator[Hook]:
    """A webhook that listens on 127.0.0.1."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = hook.take(Delivery(self.path, self.headers, body))
            self.send_response(status)
            for name, value in hook.headers.items():
                self.send_header(name, value)
            length = 1 << 40 if hook.is_endless else len(hook.body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(hook.body)
            while hook.is_endless:
                self.wfile.write(bytes(65_536))

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # the client went away

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
