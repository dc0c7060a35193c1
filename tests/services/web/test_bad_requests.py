"""What bad requests get: the exact status, an error in JSON, and a server that serves on."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h11
import httpx
import pytest
import trio

from services.archive_support import SERIES, STUDY, data_set, uid
from support.dicomweb import Served, served

INSTANCE = f"/dicomweb/studies/{STUDY}/series/{SERIES}/instances/{uid(1)}"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def archive() -> Iterator[Served]:
    """With one object in it."""
    with served() as found:
        answer = httpx.post(
            f"{found.url}/studies",
            content=data_set(1),
            headers={"content-type": "application/dicom"},
        )
        assert answer.status_code == 200
        yield found


def port_of(archive: Served) -> int:
    port = httpx.URL(archive.url).port
    assert port is not None
    return port


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


def answers_to(archive: Served, said: bytes, *, then_close: bool = False) -> list[Answer]:
    """All that comes back on one connection until the server closes it."""
    received = b""
    with socket.create_connection(("127.0.0.1", port_of(archive)), timeout=PATIENCE) as sock:
        sock.sendall(said)
        if then_close:
            sock.shutdown(socket.SHUT_WR)
        try:
            while chunk := sock.recv(65_536):
                received += chunk
                if not then_close and _is_last(received):
                    # Who is refused may go on sending for a while; we do not.
                    sock.shutdown(socket.SHUT_WR)
                    then_close = True
        except ConnectionResetError:
            pass
    return _answers_in(received)


def _is_last(received: bytes) -> bool:
    """Whether an answer is whole that says it is the last."""
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not end or length is None or len(rest) < int(length[1]):
            return False
        if re.search(rb"(?i)\r\nconnection: close", head):
            return True
        received = rest[int(length[1]) :]
    return False


def _answers_in(received: bytes) -> list[Answer]:
    found: list[Answer] = []
    client = h11.Connection(h11.CLIENT)
    client.receive_data(received)
    client.receive_data(b"")
    while received:
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        while not isinstance(event := client.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Response):
                named = {n.decode(): v.decode() for n, v in event.headers}
                found.append(Answer(event.status_code, named, b""))
            elif isinstance(event, h11.Data):
                found[-1].body += bytes(event.data)
        if (client.our_state, client.their_state) != (h11.DONE, h11.DONE):
            break
        client.start_next_cycle()
        if not client.trailing_data[0]:
            break
    return found


def check_error(answer: Answer, code: str = "") -> None:
    """Code, message and request of an error; nothing of us in it."""
    error = answer.error
    assert set(error) == {"code", "message", "request"}
    assert re.fullmatch("[A-Z_0-9]+", error["code"])
    assert not code or error["code"] == code
    assert answer.headers["x-request-id"] == error["request"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert "location" not in answer.headers
    assert "server" not in answer.headers
    for word in (b"Traceback", b"isocenter/", b".py", b"sqlite", b"/root", b"/home"):
        assert word not in answer.body


@pytest.fixture(autouse=True)
def serves_on(archive: Served) -> Iterator[None]:
    """After each test it answers, has what it had, and nothing more."""
    yield
    answer = httpx.get(f"{archive.url}/instances", timeout=PATIENCE)
    assert answer.status_code == 200
    found = [one["00080018"]["Value"][0] for one in answer.json()]
    assert found == [uid(1)]


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, "Host: localhost", *fields, "", ""]).encode("latin-1")


LAST = head("GET /dicomweb/series HTTP/1.1", "Connection: close")


def get(path: str, *fields: str) -> bytes:
    return head(f"GET {path} HTTP/1.1", "Connection: close", *fields)


def post(body: bytes, *fields: str, path: str = "/dicomweb/studies") -> bytes:
    length = f"Content-Length: {len(body)}"
    return head(f"POST {path} HTTP/1.1", "Connection: close", length, *fields) + body


MULTIPART = 'Content-Type: multipart/related; type="application/dicom"; boundary=b'
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"

#: What is said, the status, and the code.
TABLE: dict[str, tuple[bytes, int, str]] = {
    # Paths and methods (web: all).
    "unknown path": (get("/nowhere"), 404, "NOT_FOUND"),
    "unknown path below": (get("/dicomweb/studies/1.2/nowhere"), 404, "NOT_FOUND"),
    "unknown study": (get("/dicomweb/studies/1.2.999"), 404, "NOT_FOUND"),
    "series of another study": (get(INSTANCE.replace(STUDY, "1.2.999")), 404, "NOT_FOUND"),
    "empty segment": (get("/dicomweb//studies"), 404, "NOT_FOUND"),
    "a step up": (get("/dicomweb/../../etc/passwd"), 404, "NOT_FOUND"),
    "a step up, encoded": (get("/dicomweb/%2e%2e/%2e%2e/etc/passwd"), 404, "NOT_FOUND"),
    "NUL in a path": (get("/dicomweb/studies/1.2%00"), 404, "NOT_FOUND"),
    "CR LF in a path": (get("/dicomweb/studies/1.2%0d%0aX:%20y"), 404, "NOT_FOUND"),
    "no UTF-8 in a path": (get("/dicomweb/studies/%ff%fe"), 404, "NOT_FOUND"),
    "very many segments": (get("/dicomweb" + "/a" * 1_000), 404, "NOT_FOUND"),
    "another method": (head("PUT /dicomweb/studies HTTP/1.1", "Connection: close"), 405,
                       "METHOD_NOT_ALLOWED"),
    "an invented method": (head("FLY /dicomweb/studies HTTP/1.1", "Connection: close"), 405,
                           "METHOD_NOT_ALLOWED"),
    "TRACE": (head("TRACE /dicomweb/studies HTTP/1.1", "Connection: close"), 405,
              "METHOD_NOT_ALLOWED"),
    "CONNECT": (head("CONNECT localhost:80 HTTP/1.1", "Connection: close"), 404, "NOT_FOUND"),
    # Accept.
    "Accept that is none": (get(INSTANCE, "Accept: ///"), 400, "BAD_ACCEPT"),
    "Accept without an end": (get(INSTANCE, 'Accept: multipart/related; type="x'), 400,
                              "BAD_ACCEPT"),
    "Accept of nothing we have": (get(INSTANCE, "Accept: audio/midi"), 406, "NOT_ACCEPTABLE"),
    "Accept of nothing at all": (get(INSTANCE, "Accept: */*;q=0"), 406, "NOT_ACCEPTABLE"),
    "a transfer syntax that is none": (
        get(INSTANCE, "Accept: application/dicom; transfer-syntax=../x"), 406, "NOT_ACCEPTABLE"),
    "accept in the query": (get(f"{INSTANCE}?accept=///"), 400, "BAD_ACCEPT"),
    # Queries.
    "a negative limit": (get("/dicomweb/studies?limit=-1"), 400, ""),
    "a limit that is none": (get("/dicomweb/studies?limit=1e9"), 400, ""),
    "a huge limit": (get("/dicomweb/studies?limit=99999999999999999999"), 400, ""),
    "too many parameters": (get("/dicomweb/studies?" + "a=b&" * 600), 400, "BAD_QUERY"),
    "no UTF-8 in a query": (get("/dicomweb/studies?PatientName=%ff"), 400, "BAD_QUERY"),
    # Frames and pictures.
    "frame 0": (get(f"{INSTANCE}/frames/0"), 400, ""),
    "frames that are none": (get(f"{INSTANCE}/frames/a,b"), 400, ""),
    "a negative frame": (get(f"{INSTANCE}/frames/-1"), 400, ""),
    "bulk data that are not there": (get(f"{INSTANCE}/bulkdata/00200013"), 404, ""),
    "bulk data of no tag": (get(f"{INSTANCE}/bulkdata/../../x"), 404, "NOT_FOUND"),
    "a viewport that is none": (get(f"{INSTANCE}/rendered?viewport=a"), 400, ""),
    "a huge viewport": (get(f"{INSTANCE}/rendered?viewport=999999,999999"), 400, ""),
    # Bodies.
    "no type": (post(b"x"), 415, ""),
    "a type that is none": (post(b"x", "Content-Type: ;;;"), 415, ""),
    "another type": (post(b"x", "Content-Type: text/html"), 415, ""),
    "a body that is packed": (post(b"\x1f\x8b", "Content-Type: application/dicom",
                                   "Content-Encoding: gzip"), 415, "UNSUPPORTED_ENCODING"),
    "a body that is packed twice": (post(b"x", "Content-Type: application/dicom",
                                         "Content-Encoding: gzip, br"), 415,
                                    "UNSUPPORTED_ENCODING"),
    "multipart without a boundary": (post(b"x", "Content-Type: multipart/related"), 400, ""),
    "multipart without an end": (post(PART + b"x" * 500, MULTIPART), 400, ""),
    "multipart without a beginning": (post(b"x" * 5_000, MULTIPART), 400, ""),
    "multipart with a part's head without an end": (
        post(b"--b\r\n" + b"X: y\r\n" * 5_000, MULTIPART), 400, ""),
    # What HTTP itself refuses.
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "BAD_REQUEST"),
    "a Host that is none": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "BAD_REQUEST"),
    "a Host with a user": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, "BAD_REQUEST"),
    "a Host that would end a line": (b"GET / HTTP/1.1\r\nHost: a%0d%0ab\r\n\r\n", 400,
                                     "BAD_REQUEST"),
    "an absolute target for no host": (b"GET http://a%20b/ HTTP/1.1\r\nHost: x\r\n\r\n", 400,
                                       "BAD_REQUEST"),
    "no HTTP": (b"EHLO example.org\r\n\r\n", 400, "BAD_REQUEST"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, "BAD_REQUEST"),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "WRONG_VERSION"),
    "lines that end by LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400, "BAD_REQUEST"),
    "one line that ends by LF": (b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400, "BAD_REQUEST"),
    "a CR within a line": (b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400, "BAD_REQUEST"),
    "a line that goes on": (b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400,
                            "BAD_REQUEST"),
    "a space before a colon": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", 400,
                               "BAD_REQUEST"),
    "a name that is none": (b"GET / HTTP/1.1\r\nHost: x\r\nX(y: z\r\n\r\n", 400, "BAD_REQUEST"),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400, "BAD_REQUEST"),
    "two lengths": (post(b"", "Transfer-Encoding: chunked"), 400, "BAD_REQUEST"),
    "two lengths that differ": (head("POST / HTTP/1.1", "Content-Length: 1",
                                     "Content-Length: 2"), 400, "BAD_REQUEST"),
    "a length with a sign": (head("POST / HTTP/1.1", "Content-Length: +1"), 400, "BAD_REQUEST"),
    "a length in hexadecimal": (head("POST / HTTP/1.1", "Content-Length: 0x1"), 400,
                                "BAD_REQUEST"),
    "a coding that is unknown": (head("POST / HTTP/1.1", "Transfer-Encoding: xchunked"), 501,
                                 "NOT_IMPLEMENTED"),
    "codings one upon the other": (head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
                                   501, "NOT_IMPLEMENTED"),
    "chunked by HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                            400, "BAD_REQUEST"),
    "a long target": (get("/" + "a" * 17_000), 431, "HEAD_TOO_LARGE"),
    "a long field": (get("/", "X: " + "a" * 17_000), 431, "HEAD_TOO_LARGE"),
    "very many fields": (get("/", *["X: y"] * 5_000), 431, "HEAD_TOO_LARGE"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_answer_to(name: str, archive: Served) -> None:
    said, status, code = TABLE[name]
    # What comes behind is no second request.
    (answer,) = answers_to(archive, said)
    assert answer.status == status, answer.body
    check_error(answer, code)
    assert ("allow" in answer.headers) is (status == 405)


SMUGGLED = b"GET /dicomweb/studies HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        head("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"0\n\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"0\r\n\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"1\nx\r\n0\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"-1\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"0x1\r\nx\r\n0\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\nxx\r\n0\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"1;" + b"a" * 20_000,
        head("POST / HTTP/1.1", "Transfer-Encoding : chunked") + b"0\r\n\r\n",
        head("POST / HTTP/1.1", "Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
    ],
)
def test_no_second_request_is_seen_where_another_sees_one(said: bytes, archive: Served) -> None:
    statuses = [answer.status for answer in answers_to(archive, said + SMUGGLED + LAST)]
    assert 200 not in statuses
    assert len(statuses) <= 1


def test_requests_one_behind_the_other_are_answered_in_their_order(archive: Served) -> None:
    paths = [INSTANCE, "/nowhere", "/dicomweb/studies", f"{INSTANCE}/frames/0"]
    said = b"".join(head(f"GET {path} HTTP/1.1") for path in paths) + LAST
    found = [answer.status for answer in answers_to(archive, said)]
    assert found == [200, 404, 200, 400, 200]


def test_a_chunk_may_have_an_extension(archive: Served) -> None:
    said = head(
        "POST /dicomweb/studies HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close"
    )
    (answer,) = answers_to(archive, said + b"1;a=b\r\nx\r\n0\r\n\r\n")
    assert answer.status == 415


def test_a_body_that_is_cut_leaves_nothing(archive: Served) -> None:
    whole = PART + data_set(2) + b"\r\n--b--\r\n"
    for cut in (len(PART), len(PART) + 100, len(whole) - 5):
        length = f"Content-Length: {len(whole)}"
        said = head("POST /dicomweb/studies HTTP/1.1", length, MULTIPART) + whole[:cut]
        assert not [one for one in answers_to(archive, said, then_close=True) if one.status == 200]


async def test_300_that_say_nothing_and_100_that_stop_half_way(archive: Served) -> None:
    idle = [await trio.open_tcp_stream("127.0.0.1", port_of(archive)) for _ in range(300)]
    for _ in range(100):
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(archive))
        await stream.send_all(b"GET /dicomweb/studies HTTP/1.1\r\nHost: loc")
        idle.append(stream)
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        for _ in range(5):
            assert (await client.get(f"{archive.url}/studies")).status_code == 200
    for stream in idle:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    "query",
    [
        "includefield=%0d%0aSet-Cookie:%20a=b",
        "fuzzymatching=true%0d%0aX:%20y",
        "PatientName=%0d%0aX:%20y",
        "%0d%0aX:%20y=z",
        "limit=1&offset=0%0d%0a",
    ],
)
def test_no_line_of_a_query_gets_into_a_header(query: str, archive: Served) -> None:
    answer = httpx.get(f"{archive.url}/studies?{query}")
    assert answer.status_code in (200, 400)
    assert not {"set-cookie", "x"} & set(answer.headers)


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/studies", "application/dicom+json"),
        (f"/studies/{STUDY}/metadata", "application/dicom+json"),
        (f"/studies/{STUDY}", "multipart/related; type=application/dicom"),
        (f"/studies/{STUDY}/metadata", 'multipart/related; type="application/dicom+xml"'),
        ("/nowhere", "text/html"),
    ],
)
def test_nothing_in_an_answer_runs_in_a_browser(path: str, accept: str, archive: Served) -> None:
    answer = httpx.get(archive.url + path, headers={"accept": accept})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
