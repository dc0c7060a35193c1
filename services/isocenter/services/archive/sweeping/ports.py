"""Port of staged keys: where a store may have what the index lacks.

A key is noted, durably, before an object is written under it.  The transaction that makes the
object findable takes the note away, and a transaction that takes it out of the index notes it
again.  So whatever a crash leaves behind has a note, and nobody has to list a store to find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from isocenter.services.archive.ports import StoredInstance


class Announced(NamedTuple):
    """What the index has under a UID, and whether the key of what is to come is noted now."""

    known: StoredInstance | None
    is_noted: bool


class StagedKeys(Protocol):
    """Keeps notes of keys.  Failures are `StorageError`.

    `Index.add` takes the notes of what it adds away, and raises `StorageError` where one of an
    object that is to have one has been claimed by `claim_overdue`: the object is being removed.
    """

    async def begin(self, keys: Sequence[str]) -> Sequence[bool]:
        """Note keys; of each, whether nobody had noted it."""
        ...

    async def announce(self, wanted: Sequence[tuple[str, str, str]]) -> Sequence[Announced]:
        """Note keys, each with the SOP Instance UID and the digest of the object that is to come;
        but not those of which the index has this very object."""
        ...

    async def end(self, keys: Sequence[str]) -> None:
        """Nothing is under these keys any more."""
        ...

    async def claim_overdue(self, before: float, limit: int) -> Sequence[str]:
        """Keys that were noted before that time (seconds since 1970): from now on the index takes
        up none of them.

        Those under which the index, a correction, or a way to the trash or back has something are
        left out, and their notes taken away: one transaction decides both.
        """
        ...

    async def count(self) -> int:
        """How many notes there are."""
        ...
