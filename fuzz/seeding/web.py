"""Seeds that are what HTTP clients send."""

from __future__ import annotations

from corpora import Seeds
from h2.config import H2Configuration
from h2.connection import H2Connection


def http() -> Seeds:
    return {
        "multipart": b"\0\7\r\n--b\r\nContent-Type: a/b\r\n\r\none\r\n--b\r\n\r\n--b--",
        "multipart_cut": b"\0\3--b\r\nX: y\r\n z\r\n\r\none\r\n--",
        "accept": b'\1\0multipart/related; type="image/jpeg; a=b"; q=0.5, */*;q=.1, x/y; z="',
        "get": b"\2\5GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
        "post": b"\2\5POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noneGET",
        "chunks": b"\2\2PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\n\r\n",
        "two_lengths": b"\2\2POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "old": b"\2\1GET / HTTP/1.0\r\n\r\n",
        "http2": b"\3\11" + _http2(),
        "frames": b"\5\3" + _frames(),
        "path": b"\4\0/studies/1.2%2F3/bulk/a/b\nbytes=5-9",
    }


def _frames() -> bytes:
    """A message in two pieces with a ping between them, bytes, and the end; masked by nothing."""
    pieces = ((1, b"one"), (0x89, b"two"), (0x80, b"three"), (0x82, b"\0\1"), (0x88, b"\3\xe8bye"))
    return b"".join(bytes([head, 0x80 | len(data)]) + bytes(4) + data for head, data in pieces)


def _http2() -> bytes:
    client = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
    client.initiate_connection()
    preface = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    fields = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
    client.send_headers(1, fields)
    client.send_data(1, b"one", end_stream=True)
    client.send_headers(3, fields, end_stream=True)
    client.reset_stream(3)
    return client.data_to_send()[preface:]
