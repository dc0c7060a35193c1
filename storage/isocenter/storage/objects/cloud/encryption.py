"""Encryption of objects before they leave, in parts that are read alone.

What is in the bucket::

    header      128 bytes: what it is, the ID of the master key, and the key of this object,
                encrypted with the master key and bound to the name of the object
    segments    of 64 KiB each, the last one shorter, each encrypted with AES-256-GCM and followed
                by its tag; the nonce is the number of the segment, and whether it is the last

So a part of an object costs its segments, an object that was cut short, or whose segments were put
in another order, is not taken for whole, and no object can be given out for another.  Each object
has a key of its own.  Objects without such a header are read as they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.range_cache import Ranges

HEADER_BYTES: Final = 128
SEGMENT_BYTES: Final = 64 << 10
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_MAGIC: Final = b"ISOCENC1"
#: Magic, the ID of the master key, nonce and the key of the object with its tag; then zeros.
_HEADER: Final = struct.Struct(">8s32s12s48s")
_KEY_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,32}")
#: What tells apart two objects of one instance in their keys; it may change when one is restored.
_DISTINCT: Final = re.compile(r"~[0-9a-f]{8}(?=\.dcm$)")
#: Objects whose keys are known.
_MOST_KNOWN: Final = 2_000
#: More is decrypted in a thread.
_AT_ONCE: Final = 256 << 10


class MasterKeys:
    """Keys that encrypt keys, by their IDs; the first is for what comes."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        #: Empty: nothing is encrypted.
        self.current = next(iter(self._keys), "")

    @classmethod
    def parse(cls, text: str, where: str) -> MasterKeys:
        """Lines ``ID = KEY``, the key as 32 bytes in Base64.

        Raises:
            StorageError: it is not; no key is shown.
        """
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            key_id, mark, value = line.partition("=")
            key_id = key_id.strip()
            try:
                key = base64.b64decode(value.strip(), validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not mark or not _KEY_ID.fullmatch(key_id) or len(key) != _KEY_BYTES:
                raise StorageError(
                    f"line {number} of {where} is not ID = KEY, with a key of {_KEY_BYTES} bytes "
                    "in Base64; make one with: openssl rand -base64 32"
                )
            if key_id in keys:
                raise StorageError(f"line {number} of {where} has the ID of a line above")
            keys[key_id] = key
        if not keys:
            raise StorageError(f"there is no key in {where}")
        return cls(keys)

    def fingerprints(self) -> dict[str, bytes]:
        """By their IDs, what tells whether a key is the same, and nothing else of it."""
        return {
            key_id: hashlib.sha256(b"isocenter master key\0" + key).hexdigest().encode()
            for key_id, key in self._keys.items()
        }

    def header(self, key: bytes, name: str) -> bytes:
        """The head of an object that is encrypted with *key*."""
        nonce = secrets.token_bytes(12)
        key_id = self.current.encode()
        wrapped = AESGCM(self._keys[self.current]).encrypt(nonce, key, _bound(key_id, name))
        head = _HEADER.pack(_MAGIC, key_id, nonce, wrapped)
        return head.ljust(HEADER_BYTES, b"\0")

    def rewrapped(self, header: Buffer, name: str) -> bytes | None:
        """The header with the current master key; empty: it has that; None: it is not encrypted.

        Raises:
            StorageError: as of `key_in`.
        """
        key = self.key_in(header, name)
        if key is None:
            return None
        _, key_id, _, _ = _HEADER.unpack_from(header)
        return b"" if key_id.rstrip(b"\0") == self.current.encode() else self.header(key, name)

    def key_in(self, header: Buffer, name: str) -> bytes | None:
        """The key that an object is encrypted with; None: it is not encrypted.

        Raises:
            StorageError: the key is not here, or the header was changed.
        """
        if len(header) < HEADER_BYTES or bytes(header[: len(_MAGIC)]) != _MAGIC:
            return None
        _, padded, nonce, wrapped = _HEADER.unpack_from(header)
        key_id = padded.rstrip(b"\0")
        named = key_id.decode("ascii", "replace")
        master = self._keys.get(named)
        if master is None:
            raise StorageError(
                f"an object is encrypted with the key {named!r}, which is not in "
                "objects.keys_file; add it there, after the key that is for new objects"
            )
        try:
            return AESGCM(master).decrypt(nonce, wrapped, _bound(key_id, name))
        except InvalidTag as error:
            raise _changed() from error


#: What is encrypted is not given out as if it were not.
NO_KEYS: Final = MasterKeys({})


class ObjectCipher:
    """Encrypts one object as it comes."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._cipher = AESGCM(self._key)
        self._pending = bytearray()
        self._segments = 0

    def feed(self, data: Buffer) -> list[bytes]:
        """Segments that are complete, and not the last."""
        pending = self._pending
        pending += data
        done = []
        start = 0
        while len(pending) - start > SEGMENT_BYTES:
            done.append(self._encrypt(bytes(pending[start : start + SEGMENT_BYTES]), is_last=False))
            start += SEGMENT_BYTES
        del pending[:start]
        return done

    def finish(self) -> bytes:
        """The last segment."""
        return self._encrypt(bytes(self._pending), is_last=True)

    def header(self, name: str) -> bytes:
        """What stands before the segments."""
        return self._keys.header(self._key, name)

    def _encrypt(self, data: bytes, *, is_last: bool) -> bytes:
        segment = self._cipher.encrypt(_nonce(self._segments, is_last=is_last), data, None)
        self._segments += 1
        return segment


@dataclass(frozen=True, slots=True)
class _Known:
    """An object whose header was read; *cipher*: None: it is not encrypted."""

    cipher: AESGCM | None
    size: int


class DecryptedRanges:
    """Ranges of what objects are, from ranges of what is in the bucket."""

    def __init__(self, behind: Ranges, keys: MasterKeys) -> None:
        self._behind = behind
        self._keys = keys
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        """See `Ranges.get`; also raises `StorageError` where an object was changed."""
        known = self._known.get(path)
        head: Buffer = b""
        if known is None:
            wanted = _stored_length(start + length) if start == 0 else HEADER_BYTES
            total, head = await self._behind.get(path, 0, wanted)
            known = self._learn(path, total, head)
        else:
            self._known.move_to_end(path)
        if known.cipher is None:
            if head and start == 0:
                return known.size, memoryview(head)[:length]
            return await self._behind.get(path, start, length)
        end = min(start + length, known.size)
        if end <= start:
            return known.size, b""
        first, last = start // SEGMENT_BYTES, (end - 1) // SEGMENT_BYTES
        begin = _stored_length(first * SEGMENT_BYTES)
        count = (last + 1 - first) * (SEGMENT_BYTES + _TAG_BYTES)
        data = memoryview(head)[begin : begin + count]
        if not head or start:
            data = memoryview((await self._behind.get(path, begin, count))[1])
        if len(data) > _AT_ONCE:
            plain = await trio.to_thread.run_sync(_decrypt, known, first, last, data)
        else:
            plain = _decrypt(known, first, last, data)
        skipped = start - first * SEGMENT_BYTES
        return known.size, memoryview(plain)[skipped : skipped + end - start]

    def forget(self, path: str) -> None:
        """An object was removed: another one may come there."""
        self._known.pop(path, None)

    def _learn(self, path: str, total: int, head: Buffer) -> _Known:
        key = self._keys.key_in(head, name_in(path))
        if key is None:
            known = _Known(None, total)
        else:
            stored = total - HEADER_BYTES
            segments = -(-stored // (SEGMENT_BYTES + _TAG_BYTES))
            known = _Known(AESGCM(key), stored - segments * _TAG_BYTES)
        self._known[path] = known
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def name_in(path: str) -> str:
    """The name that an object keeps wherever it is moved to."""
    return _DISTINCT.sub("", path.rpartition("/")[2])


def _decrypt(known: _Known, first: int, last: int, data: memoryview) -> bytes:
    assert known.cipher is not None
    length = SEGMENT_BYTES + _TAG_BYTES
    last_of_all = max(known.size - 1, 0) // SEGMENT_BYTES
    parts = []
    for number in range(first, last + 1):
        segment = data[(number - first) * length : (number - first + 1) * length]
        try:
            nonce = _nonce(number, is_last=number == last_of_all)
            parts.append(known.cipher.decrypt(nonce, segment, None))
        except (InvalidTag, ValueError) as error:
            raise _changed() from error
    return b"".join(parts)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return struct.pack(">IQ", is_last, number)


def _bound(key_id: bytes, name: str) -> bytes:
    return _MAGIC + key_id + b"\0" + name.encode()


def _stored_length(length: int) -> int:
    """Bytes in the bucket up to the end of the segment in which a part of an object ends."""
    return HEADER_BYTES + -(-length // SEGMENT_BYTES) * (SEGMENT_BYTES + _TAG_BYTES)


def _changed() -> StorageError:
    return StorageError(
        "an object was changed in the store, or is encrypted with another key than that of this ID "
        "in objects.keys_file"
    )
