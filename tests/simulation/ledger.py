"""What the clients sent, what they were told, and what must therefore be so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from isocenter.engine.dataset import encoding_of
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import DuplicatePolicy
from services.archive_support import data_set
from simulation.world import World


@dataclass(frozen=True, slots=True)
class Thing:
    """One version of an object, as sent.  What is `broken` no archive may take."""

    uid: str
    study: str
    transfer_syntax: str
    data: bytes
    broken: bool = False

    @property
    def series(self) -> str:
        return f"{self.study}.1"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(eq=False, slots=True)
class Attempt:
    """One C-STORE: when it began, and when and how it was answered."""

    thing: Thing
    digest: str
    began: int
    ended: float = math.inf
    status: int | None = None


class Ledger:
    """Holds an archive to what it has acknowledged."""

    def __init__(self, world: World, duplicates: DuplicatePolicy) -> None:
        self._world = world
        self._duplicates = duplicates
        self._attempts: dict[str, list[Attempt]] = {}
        self._studies: dict[str, set[str]] = {}
        #: Orders what happens, also at one moment.
        self._moment = 0

    def _now(self) -> int:
        self._moment += 1
        return self._moment

    def begin(self, thing: Thing) -> Attempt:
        """A client sends."""
        attempt = Attempt(thing, thing.digest, self._now())
        self._attempts.setdefault(thing.uid, []).append(attempt)
        self._studies.setdefault(thing.study, set()).add(thing.uid)
        return attempt

    def answered(self, attempt: Attempt, status: int) -> None:
        """It got a C-STORE-RSP."""
        attempt.status = status
        attempt.ended = self._now()
        self._world.check(
            not attempt.thing.broken or status not in (0x0000, 0xB007),
            f"{attempt.thing.uid} is no data set and was acknowledged with {status:04X}H",
        )

    def acknowledged(self, study: str) -> set[str]:
        """What has to be found in *study* from now on."""
        return {
            uid
            for uid in self._studies.get(study, ())
            if any(each.status in (0x0000, 0xB007) for each in self._attempts[uid])
        }

    def sent(self, study: str) -> set[str]:
        """What may be found in *study*."""
        return {
            uid
            for uid in self._studies.get(study, ())
            if any(not each.thing.broken for each in self._attempts[uid])
        }

    def studies(self) -> list[str]:
        return list(self._studies)

    def received(self, uid: str, transfer_syntax: str, data: bytes) -> None:
        """An archive sent us this: it must be what somebody sent, whole."""
        digest = hashlib.sha256(data).hexdigest()
        self._world.check(
            any(
                each.digest == digest and each.thing.transfer_syntax == transfer_syntax
                for each in self._attempts.get(uid, ())
                if not each.thing.broken
            ),
            f"{uid} was sent to us as nobody had sent it",
        )

    def found(self, study: str, uids: Iterable[str], acknowledged: set[str], what: str) -> None:
        """A query or retrieval ended with success; *acknowledged* before it began."""
        found = set(uids)
        self._world.check(
            acknowledged <= found, f"{what}: {sorted(acknowledged - found)} are acknowledged"
        )
        self._world.check(
            found <= self.sent(study), f"{what}: {sorted(found - self.sent(study))} were not sent"
        )

    def _allowed(self, uid: str) -> set[str]:
        """Digests of which the archive must hold one: by its policy, and by what followed what."""
        attempts = [each for each in self._attempts[uid] if not each.thing.broken]
        stored = [each for each in attempts if each.status == 0x0000]
        if self._duplicates is not DuplicatePolicy.REPLACE:
            # The first stays: whoever was told 0000H has sent the same bytes.
            return {each.digest for each in (stored or attempts)}
        return {
            each.digest
            for each in attempts
            if not any(after.began > each.ended for after in stored)
        }

    async def audit(self, archive: Archive, *, orphans: bool) -> None:
        """Look into the archive when nothing is under way.

        Args:
            orphans: whether objects without a row of the index are accounted for.
        """
        check = self._world.check
        keys: set[str] = set()
        async with archive.store.keys() as blocks:
            async for block in blocks:
                keys.update(block)
        rows = {}
        async with archive.index.instances() as instances:
            async for stored_block in instances:
                rows.update({stored.sop_instance_uid: stored for stored in stored_block})
        for uid, stored in rows.items():
            check(uid in self._attempts, f"{uid} was never sent and is there")
            check(stored.object_key in keys, f"{uid} has no object")
            if uid not in self._attempts or stored.object_key not in keys:
                continue
            async with await archive.open(stored) as reader:
                check(reader.size == stored.size, f"{uid} has {reader.size} bytes")
                data = await reader.read(stored.data_set_offset, reader.size)
            digest = hashlib.sha256(data).hexdigest()
            check(digest == stored.digest, f"{uid} is not what its row says")
            check(digest in self._allowed(uid), f"{uid} is not what was acknowledged")
        for study in self._studies:
            for uid in sorted(self.acknowledged(study) - rows.keys()):
                self._world.violation(f"{uid} was acknowledged and is gone")
        if not orphans:
            extra = keys - {stored.object_key for stored in rows.values()}
            check(not extra, f"objects that no row knows: {sorted(extra)}")

    async def audit_copies(self, archive: Archive) -> None:
        """Look into an archive to which objects were moved: all of it was sent, as it is."""
        async with archive.index.instances() as instances:
            async for block in instances:
                for stored in block:
                    async with await archive.open(stored) as reader:
                        data = await reader.read(stored.data_set_offset, reader.size)
                    self.received(stored.sop_instance_uid, stored.transfer_syntax_uid, data)


def make_thing(
    world: World, number: int, studies: int, transfer_syntax: str, most_bytes: int
) -> Thing:
    """A version of object *number*, of random size."""
    random = world.random
    study = f"1.2.3.{number % studies + 1}"
    size = int(most_bytes ** random.random()) & ~1
    data = data_set(
        number,
        study=study,
        series=f"{study}.1",
        pixels=random.randbytes(size),
        encoding=encoding_of(transfer_syntax),
    )
    return Thing(f"1.2.3.4.{number}", study, transfer_syntax, data)
