"""What one worker does for a line of the table: one association, one outstanding request."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final

from isocenter.engine import CEchoRequest
from isocenter.engine.pdv import PDV_OVERHEAD, encode_fragments
from peers import objects
from peers.load import Done
from peers.objects import CT, EXPLICIT, FRAME_BYTES, MULTI_FRAME, StoreMessage, Template
from peers.wire import Address, Connection, pdus

VERIFICATION: Final = "1.2.840.10008.1.1"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_MIB: Final = 1 << 20
_MB: Final = 1e6
#: Of a large object, what one `sendall` takes.
_BATCH_BYTES: Final = 8 << 20
_ECHO_CONTEXTS: Final = ((VERIFICATION, (_IMPLICIT,)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the workers of one cell are told.

    ``limit``: operations of all of them; ``first``: number of the first object, of which the
    next *limit* are theirs.
    """

    address: Address
    seconds: float
    limit: int
    workers: int = 1
    first: int = 0

    @property
    def quota(self) -> int:
        return max(1, self.limit // self.workers)


def echo(job: Job, _index: int) -> Done:
    """C-ECHO after C-ECHO on one association."""
    connection = Connection(job.address, _ECHO_CONTEXTS)
    request = pdus(1, CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION))
    send, expect_success = connection.socket.sendall, connection.expect_success
    count = 0
    began = time.monotonic()
    ends = began + job.seconds
    while count < job.quota and time.monotonic() < ends:
        send(request)
        expect_success()
        count += 1
    ended = time.monotonic()
    connection.release()
    return Done(began, ended, count, note=connection.tls)


def associate(job: Job, _index: int) -> Done:
    """A connection, an association, a C-ECHO, a release; again and again."""
    request = pdus(1, CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION))
    count, note = 0, ""
    began = time.monotonic()
    ends = began + job.seconds
    while count < job.quota and time.monotonic() < ends:
        connection = Connection(job.address, _ECHO_CONTEXTS)
        connection.socket.sendall(request)
        connection.expect_success()
        connection.release()
        note = connection.tls
        count += 1
    return Done(began, time.monotonic(), count, note=note)


@cache
def template(side: int) -> Template:
    """Made once, before the workers are forked."""
    return objects.image(side)


def store(job: Job, index: int, side: int, *, study_length: int = objects.SERIES_LENGTH) -> Done:
    """C-STORE after C-STORE of an image of *side*; a study each *study_length*."""
    connection = Connection(job.address, ((CT, (EXPLICIT,)),))
    message = StoreMessage(template(side), 1, connection.max_length)
    buffer, send = message.buffer, connection.socket.sendall
    first = job.first + index * job.quota
    number = first
    refused: Counter[int] = Counter()
    began = time.monotonic()
    ends = began + job.seconds
    while number - first < job.quota and time.monotonic() < ends:
        message.name(number, number - (number - first) % study_length)
        send(buffer)
        if status := connection.status():
            refused[status] += 1
        number += 1
    ended = time.monotonic()
    connection.release()
    notes = [connection.tls] if connection.tls else []
    notes += [f"some refused with {status:04X}H" for status in refused]
    return Done(began, ended, number - first - refused.total(), note=", ".join(notes))


@cache
def frame() -> bytes:
    """Random pixels; made once, before the workers are forked."""
    return os.urandom(FRAME_BYTES)


def large(job: Job, _index: int, mebibytes: int) -> Done:
    """One multi-frame object of *mebibytes*, from its first byte to the response; in MB."""
    connection = Connection(job.address, ((MULTI_FRAME, (EXPLICIT,)),))
    send, max_length = connection.socket.sendall, connection.max_length
    frames = mebibytes * _MIB // FRAME_BYTES
    names = job.first, job.first
    command = objects.renamed(objects.store_command(MULTI_FRAME, 1, max_length), *names)
    head = objects.renamed(objects.head_of_frames(frames), *names)
    body = (max_length - PDV_OVERHEAD) & ~1
    whole = _fragments(frame()[:body], max_length)
    batch = memoryview(whole * (_BATCH_BYTES // len(whole)))
    missing, rest = divmod(frames * FRAME_BYTES, body)
    began = time.monotonic()
    send(command + _fragments(head, max_length))
    while missing:
        count = min(missing, len(batch) // len(whole))
        send(batch[: count * len(whole)])
        missing -= count
    send(_fragments(frame()[:rest], max_length, is_last=True))
    connection.expect_success()
    ended = time.monotonic()
    connection.release()
    return Done(began, ended, (frames * FRAME_BYTES + len(head)) / _MB, note=connection.tls)


def _fragments(data: bytes, max_length: int, *, is_last: bool = False) -> bytes:
    return b"".join(
        encode_fragments(1, data, is_command=False, is_last=is_last, max_length=max_length)
    )
