"""Hash chain of audit records: changed, missing and inserted records are detected.

A record is a line of JSON.  Its last member is a digest of all bytes of the line before that
member, and among those is the digest of the record before::

    {"sequence":7,"previous":"3f…",…,"message":"<?xml…","sha256":"9c…"}

With a key the digest is an HMAC, ``hmac_sha256``, which only its holder can make.  The head, in a
file of its own, is a like line that names the last record, so that a missing end shows.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

#: What the first record names as the one before it.
GENESIS: Final = "0" * 64
#: No record of ours comes near; a longer line is none.
LONGEST_LINE: Final = 1 << 20

_SEALED: Final = re.compile(rb'(\{.*),"(sha256|hmac_sha256)":"([0-9a-f]{64})"\}\n', re.DOTALL)


class RecordError(IsocenterError):
    """A line that is no record, or not the one that was written; the message says why."""

    error_code = ErrorCode.AUDIT


class UnknownKeyError(RecordError):
    """A digest that only the holder of a key can check, and there is none."""


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a chain: the number of its last record (0: none yet) and that one's digest."""

    sequence: int = 0
    digest: str = GENESIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a record is to say; the members are there to be searched without reading XML.

    Attributes:
        time: as `messages.timestamp` writes it.
        event, type: Code Meanings; a type may be empty.
        outcome: Event Outcome Indicator.
        process: process ID of who recorded it.
        message: the XML.
    """

    time: str
    event: str
    type: str
    outcome: str
    ae_titles: tuple[str, ...]
    process: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """An entry with its place in the chain."""

    sequence: int
    previous: str
    digest: str
    is_keyed: bool
    entry: Entry

    @property
    def position(self) -> Position:
        return Position(self.sequence, self.digest)


class RecordDigest:
    """Makes and checks digests.

    Args:
        key: of the HMAC; None: SHA-256, which shows accidents and the careless, and stops
            nobody who makes all later digests anew.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self.is_keyed = key is not None

    def close(self, body: bytes) -> tuple[bytes, str]:
        """The whole line of *body*, which lacks its closing brace, and its digest."""
        digest = self._digest(body, self.is_keyed)
        name = b"hmac_sha256" if self.is_keyed else b"sha256"
        return b'%b,"%b":"%b"}\n' % (body, name, digest.encode("ascii")), digest

    def open(self, line: bytes) -> tuple[Mapping[str, Any], str, bool]:
        """The members of a line, its digest, and whether it is keyed.

        Raises:
            UnknownKeyError: it is, and we have no key.
            RecordError: the line is not one that was written here.
        """
        if len(line) > LONGEST_LINE:
            raise RecordError(f"longer than {LONGEST_LINE} bytes")
        match = _SEALED.fullmatch(line)
        if match is None:
            raise RecordError("not a line of the trail")
        body, name, digest = match[1], match[2], match[3].decode("ascii")
        is_keyed = name == b"hmac_sha256"
        if is_keyed and self._key is None:
            raise UnknownKeyError("its HMAC can be checked with the key only")
        if not hmac.compare_digest(self._digest(body, is_keyed), digest):
            raise RecordError("the digest is not that of its content")
        try:
            members = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RecordError("not JSON") from error
        return members, digest, is_keyed

    def _digest(self, body: bytes, is_keyed: bool) -> str:
        if is_keyed:
            assert self._key is not None
            return hmac.digest(self._key, body, "sha256").hex()
        return hashlib.sha256(body).hexdigest()


def encode_record(entry: Entry, after: Position, seal: RecordDigest) -> tuple[bytes, Position]:
    """The line of *entry* as the next record, and the new end of the chain."""
    sequence = after.sequence + 1
    members = {
        "sequence": sequence,
        "previous": after.digest,
        "time": entry.time,
        "event": entry.event,
        "type": entry.type,
        "outcome": entry.outcome,
        "ae_titles": entry.ae_titles,
        "process": entry.process,
        "message": entry.message,
    }
    line, digest = seal.close(orjson.dumps(members, default=tuple)[:-1])
    return line, Position(sequence, digest)


def decode_record(line: bytes, seal: RecordDigest) -> Record:
    """What a line says, after its digest was checked.

    Raises:
        RecordError: see `RecordDigest.open`.
    """
    members, digest, is_keyed = seal.open(line)
    return _record(members, digest, is_keyed)


def read_record(line: bytes) -> Record:
    """What a line says, unchecked: for showing and sending it.

    Raises:
        RecordError: it is not a line of the trail.
    """
    match = _SEALED.fullmatch(line)
    if match is None:
        raise RecordError("not a line of the trail")
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordError("not JSON") from error
    return _record(members, match[3].decode("ascii"), match[2] == b"hmac_sha256")


def _record(members: Mapping[str, Any], digest: str, is_keyed: bool) -> Record:
    try:
        entry = Entry(
            time=_text(members["time"]),
            event=_text(members["event"]),
            type=_text(members["type"]),
            outcome=_text(members["outcome"]),
            ae_titles=tuple(_text(title) for title in members["ae_titles"]),
            process=_number(members["process"]),
            message=_text(members["message"]),
        )
        sequence, previous = _number(members["sequence"]), _text(members["previous"])
        return Record(sequence, previous, digest, is_keyed, entry)
    except (KeyError, TypeError) as error:
        raise RecordError("not a record") from error


def encode_head(position: Position, seal: RecordDigest) -> bytes:
    """The head that names *position* as the end."""
    members = {"head": position.sequence, "digest": position.digest}
    return seal.close(orjson.dumps(members)[:-1])[0]


def decode_head(line: bytes, seal: RecordDigest) -> tuple[Position, bool]:
    """The end that a head names, and whether it is keyed.

    Raises:
        RecordError: see `RecordDigest.open`.
    """
    members, _, is_keyed = seal.open(line)
    try:
        return Position(_number(members["head"]), _text(members["digest"])), is_keyed
    except (KeyError, TypeError) as error:
        raise RecordError("not a head") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
