"""Films of print jobs in a bucket, where all nodes find them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.encryption import (
    DecryptedRanges,
    MasterKeys,
    ObjectCipher,
    name_in,
)
from isocenter.storage.objects.keys import is_key_part

#: Where in the bucket they are: no object of the archive is there.
FILMS_BELOW: Final = "films/"


class BucketFilms:
    """See `isocenter.services.service_classes.print.ports.FilmFiles`.

    Args:
        master_keys: encrypt what comes, as objects; none: it goes into the bucket as it is.
    """

    def __init__(self, bucket: Bucket, master_keys: MasterKeys) -> None:
        self._bucket = bucket
        self._master_keys = master_keys

    async def put(self, job_uid: str, number: int, png: bytes) -> None:
        """See `FilmFiles.put`."""
        path = _path(job_uid, number)
        parts = [png]
        if self._master_keys.current:
            cipher = ObjectCipher(self._master_keys)
            segments = [*cipher.feed(png), cipher.finish()]
            parts = [cipher.header(name_in(path)), *segments]
        content = b"".join(parts)
        await self._bucket.replace(path, io.BytesIO(content), size=len(content))

    async def get(self, job_uid: str, number: int) -> bytes | None:
        """See `FilmFiles.get`."""
        path = _path(job_uid, number)
        found = await self._bucket.head(path)
        if found is None:
            return None
        try:
            ranges = DecryptedRanges(self._bucket, self._master_keys)
            return bytes((await ranges.get(path, 0, found.size))[1])
        except KeyError:
            return None  # removed meanwhile

    async def remove(self, job_uid: str) -> None:
        """See `FilmFiles.remove`."""
        async with aclosing(self._bucket.paths(_folder(job_uid))) as blocks:
            async for block in blocks:
                for path in block:
                    await self._bucket.delete(path)

    async def jobs(self) -> Sequence[str]:
        """See `FilmFiles.jobs`."""
        found: set[str] = set()
        async with aclosing(self._bucket.paths(FILMS_BELOW)) as blocks:
            async for block in blocks:
                found.update(filter(is_key_part, map(job_of, block)))
        return list(found)


def _folder(job_uid: str) -> str:
    if not is_key_part(job_uid):
        raise ValueError("a print job is named by a UID")
    return f"{FILMS_BELOW}{job_uid}/"


def _path(job_uid: str, number: int) -> str:
    # The last part is what an encrypted film is bound to.
    return f"{_folder(job_uid)}{job_uid}-{number}.png"


def job_of(path: str) -> str:
    """The print job whose film is there; empty: it is no film."""
    return path.split("/")[1] if path.startswith(FILMS_BELOW) else ""
