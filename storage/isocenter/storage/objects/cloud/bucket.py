"""Bucket: requests to an S3 or Azure store, in worker threads.

A request that is safe to repeat is repeated by obstore, a few times.  A PUT is repeated here,
since only who made the key knows that an object which is there already must be its own.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import IO, Any, Final, Literal, TypeVar

import obstore
import trio
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore as Client

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.storage.objects.cloud.breaker import Breaker
from isocenter.storage.objects.cloud.errors import (
    BucketError,
    bucket_error,
    is_empty_range,
    is_missing,
)

#: Bytes of one part of a large object, and how many of them are under way: so much memory.
PART_BYTES: Final = 8 << 20
PARTS_AT_ONCE: Final = 2
#: A store takes 10,000 parts of one object.
_MOST_PARTS: Final = 9_000
#: How often a PUT is tried, and the first pause in between.
PUT_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
#: Large objects that are uploaded at once; each takes `PART_BYTES` × `PARTS_AT_ONCE`.
LARGE_AT_ONCE: Final = 4
KEYS_PER_BLOCK: Final = 1000
_PROBES: Final = "probe/"
_KEYS: Final = "keys/"
#: Tells this place from all others that objects could be in.
MARK: Final = "archive.id"
_MARK_BYTES: Final = 100
#: S3 copies no more in one request.
MOST_COPIED: Final = 5 << 30

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """What the store says of an object: bytes, and seconds since 1970."""

    size: int
    stored_at: float


class Bucket:
    """Objects below one prefix of one bucket.

    Args:
        client: repeats requests that may be repeated.
        once: the same store, without that.
        place: its URL, for messages.
        requests: threads that write; as many others read.
        storage_class: of what is written; empty: as the bucket has it.
    """

    def __init__(
        self,
        client: Client,
        once: Client,
        *,
        place: str,
        requests: int,
        breaker: Breaker,
        storage_class: str = "",
    ) -> None:
        self._client = client
        self._once = once
        self.place = place
        self.breaker = breaker
        self._attributes: dict[Any, Any] = {"Storage-Class": storage_class} if storage_class else {}
        #: Whether the store knows PUTs that overwrite nothing.  Nothing depends on it: a key that
        #: is noted is nobody else's.
        self._is_conditional = True
        self._writers = trio.CapacityLimiter(requests)
        self._readers = trio.CapacityLimiter(requests)
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE)

    async def try_out(self) -> None:
        """Write, read, list and remove, as an archive does.

        Raises:
            StorageError: it cannot be used; the message says what to do.
        """
        path, content = _PROBES + secrets.token_hex(8), secrets.token_bytes(64)
        # First of all, since here only is a missing bucket told from a missing object.
        async with aclosing(self.paths(_PROBES)) as blocks:
            async for _ in blocks:
                break
        await self.put(path, [content], size=len(content))
        try:
            found = bytes((await self.get(path, 0, 100))[1])
        except KeyError:
            found = b""
        finally:
            await self.delete(path)
        if found != content:
            raise StorageError(
                f"{self.place} does not give back what was written; it is no store to keep "
                "objects in"
            )

    async def mark(self) -> str:
        """What tells this place from all others; empty: nobody has marked it.

        Raises:
            BucketError: the store does not answer.
        """
        try:
            _, found = await self.get(MARK, 0, _MARK_BYTES)
        except KeyError:
            return ""
        return bytes(found).decode("ascii", "replace").strip()

    async def set_mark(self, mark: str) -> str:
        """Mark it, unless somebody has; the mark that it has then.

        Raises:
            BucketError: the store does not answer.
        """
        content = mark.encode("ascii")
        try:
            await self.put(MARK, [content], size=len(content))
        except FileExistsError:
            pass  # another node was faster
        return await self.mark()

    async def look(self) -> None:
        """Ask for an object that is not there; may be cancelled at any time.

        Raises:
            BucketError: the store does not answer, or not as it should.
        """
        with suppress(FileNotFoundError):
            await self._run(
                self._readers,
                lambda: obstore.head(self._once, _PROBES + "health"),
                abandon_on_cancel=True,
            )

    async def register(self, names: Mapping[str, bytes]) -> None:
        """Note which keys objects are encrypted with, and hold them to what was noted before.

        Args:
            names: what tells whether a key is the same, by its ID; none: nothing is encrypted.

        Raises:
            StorageError: an ID meant another key, or objects are encrypted and there is no key.
        """
        noted: set[str] = set()
        async with aclosing(self.paths(_KEYS)) as blocks:
            async for block in blocks:
                noted.update(path.removeprefix(_KEYS) for path in block)
        if noted and not names:
            raise StorageError(
                f"objects in {self.place} are encrypted (with {', '.join(sorted(noted))}); name "
                "the file with the keys in objects.keys_file"
            )
        for name, meaning in names.items():
            path = _KEYS + name
            if name not in noted:
                await self.put(path, [meaning], size=len(meaning))
            elif bytes((await self.get(path, 0, 1024))[1]) != meaning:
                raise StorageError(
                    f"the key {name} of objects.keys_file is another one than that with which "
                    f"objects in {self.place} are encrypted; give it the key that it had, and a "
                    "new key another ID"
                )

    async def put(self, path: str, parts: Sequence[Buffer], *, size: int) -> None:
        """Write a small object under a path that nobody else uses.

        Raises:
            FileExistsError: there is something.
            BucketError: it failed; `is_unknown`: it may be there all the same.
        """
        if self._is_conditional:
            try:
                await self._put(path, parts, size=size, mode="create")
                return
            except BucketError as error:
                if not error.is_unsupported:
                    raise
            self._is_conditional = False
        await self._put(path, parts, size=size, mode="overwrite")

    async def _put(
        self, path: str, parts: Sequence[Buffer], *, size: int, mode: Literal["create", "overwrite"]
    ) -> None:
        may_be_ours = False
        pause = _PAUSE_SECONDS
        for attempt in range(PUT_ATTEMPTS):
            try:
                await self._run(
                    self._writers,
                    lambda: obstore.put(
                        self._once,
                        path,
                        iter(parts),
                        attributes=self._attributes,
                        mode=mode,
                        use_multipart=False,
                    ),
                )
                return
            except AlreadyExistsError as error:
                if may_be_ours and await self.has(path, size):
                    return
                raise FileExistsError("the object key is taken") from error
            except BucketError as error:
                may_be_ours = may_be_ours or error.is_unknown
                is_last = attempt == PUT_ATTEMPTS - 1
                if not error.is_away or is_last or self.breaker.is_open:
                    error.is_unknown = may_be_ours
                    raise
            await trio.sleep(pause)
            pause *= 2

    async def put_file(self, path: str, file: IO[bytes], *, size: int) -> None:
        """Write a large object, in parts; errors as of `put`."""
        if await self.head(path) is not None:
            raise FileExistsError("the object key is taken")
        try:
            await self.replace(path, file, size=size)
        except BucketError as error:
            # The answer may have been lost, and not the object; parts are no object.  What is there
            # now can only be ours.
            if not error.is_unknown or not await self._is_there(path, size):
                raise

    async def replace(self, path: str, file: IO[bytes], *, size: int) -> None:
        """Write an object over whatever is there.

        Raises:
            BucketError: it failed; `is_unknown`: the old one or the new one is there.
        """
        part = max(PART_BYTES, -(-size // _MOST_PARTS))

        def upload() -> None:
            file.seek(0)
            obstore.put(
                self._client,
                path,
                file,
                attributes=self._attributes,
                use_multipart=size > part,
                chunk_size=part,
                max_concurrency=PARTS_AT_ONCE,
            )

        await self._run(self._large, upload)

    async def _is_there(self, path: str, size: int) -> bool:
        try:
            return await self.has(path, size)
        except BucketError:
            return False

    async def has(self, path: str, size: int) -> bool:
        """Whether there is an object of that size."""
        found = await self.head(path)
        return found is not None and found.size == size

    async def get(self, path: str, start: int, length: int) -> tuple[int, Buffer]:
        """Size of the whole object, and up to *length* bytes from *start* on.

        Raises:
            KeyError: there is none.
            BucketError: it cannot be read.
        """

        def get() -> tuple[int, Buffer]:
            result = obstore.get(self._client, path, options={"range": (start, start + length)})
            return result.meta["size"], memoryview(result.bytes())

        try:
            return await self._run(self._readers, get)
        except FileNotFoundError as error:
            raise KeyError("no such object") from error
        except _EmptyRangeError as error:
            found = await self.head(path)
            if found is None:
                raise KeyError("no such object") from error
            return found.size, b""

    async def head(self, path: str) -> Found | None:
        """What the store says of an object; None: there is none."""
        try:
            meta = await self._run(self._readers, lambda: obstore.head(self._client, path))
        except FileNotFoundError:
            return None
        return Found(meta["size"], meta["last_modified"].timestamp())

    async def delete(self, path: str) -> None:
        """Remove an object; a missing one is no error."""
        try:
            await self._run(self._writers, lambda: obstore.delete(self._client, path))
        except FileNotFoundError:
            pass  # Azure says so, S3 does not

    async def copy(self, source: str, target: str, *, size: int) -> None:
        """Have the store copy an object, over whatever is at *target*.

        Raises:
            BucketError: it failed.
        """
        if size > MOST_COPIED:
            raise BucketError(
                f"an object of {size} bytes is too large to be moved within {self.place}"
            )
        try:
            await self._run(
                self._writers, lambda: obstore.copy(self._client, source, target, overwrite=True)
            )
        except FileNotFoundError as error:
            raise BucketError("an object was removed while it was copied") from error

    async def paths(self, prefix: str) -> AsyncGenerator[list[str], None]:
        """All paths below *prefix*, in blocks."""
        stream: Iterator[Sequence[Any]] = iter(
            obstore.list(self._client, prefix, chunk_size=KEYS_PER_BLOCK)
        )
        while True:
            block = await self._run(self._readers, lambda: next(stream, None))
            if block is None:
                return
            if block:
                yield [meta["path"] for meta in block]

    async def _run(
        self,
        limiter: trio.CapacityLimiter,
        request: Callable[[], _T],
        *,
        abandon_on_cancel: bool = False,
    ) -> _T:
        """One request, in a thread, to its end also when cancelled unless it may be abandoned.

        Raises:
            FileNotFoundError, AlreadyExistsError, _EmptyRangeError: as the store says.
            BucketError: it failed.
        """
        self.breaker.begin()
        try:
            result = await trio.to_thread.run_sync(
                request, limiter=limiter, abandon_on_cancel=abandon_on_cancel
            )
        except (AlreadyExistsError, FileExistsError):
            self.breaker.succeeded()
            raise
        except (obstore.exceptions.BaseError, OSError) as error:
            if is_missing(error):
                self.breaker.succeeded()
                raise
            if is_empty_range(error):
                self.breaker.succeeded()
                raise _EmptyRangeError from error
            told = self._told(error)
            if told.is_away:
                self.breaker.failed()
            raise told from None  # its text may hold a signed URL
        self.breaker.succeeded()
        return result

    def _told(self, error: Exception) -> BucketError:
        return bucket_error(error, self.place)


class _EmptyRangeError(Exception):
    """A range begins behind the end of an object."""
