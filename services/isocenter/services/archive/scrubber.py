"""Scrubber: reads all that is kept, again and again, and compares digests.

`isocenter db verify` does the same as fast as it can; this goes so slowly that nobody
notices, and remembers over restarts how far it came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.verification import verify_instance, verify_original
from isocenter.services.errors import StorageError
from isocenter.services.notices import Notices, ObjectDamaged
from isocenter.services.system.private_files import PRIVATE_FILE, write_file

log = logging.getLogger("isocenter.storage")

SECONDS_A_DAY: Final = 86_400.0
#: An archive that is empty or cannot be read is looked at again after so long.
_IDLE_SECONDS: Final = 3_600.0
#: So much is read again after a restart, at most.
_SAVED_EVERY_SECONDS: Final = 60.0
#: How many faults of one pass have a line of their own in the log.
_MOST_LINES: Final = 100


@dataclass(slots=True)
class ScrubPass:
    """One reading of everything, as far as it has come.

    Attributes:
        done: instances.
        size: bytes of their objects.
        faults: objects that are not what was stored.
        seconds: that were spent on it.
    """

    done: int = 0
    size: int = 0
    faults: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> ScrubPass:
        """What was written; from the beginning when there is nothing, or nothing sound."""
        try:
            values = orjson.loads(path.read_bytes())
            return cls(*(type(default)(values[name]) for name, default in asdict(cls()).items()))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        write_file(path, orjson.dumps(asdict(self)), PRIVATE_FILE, replace=True)


async def scrub(
    archive: Archive,
    state: Path,
    *,
    days: float,
    notices: Notices | None = None,
    now: Callable[[], float] = trio.current_time,
) -> None:
    """Read the whole archive once in *days*, again and again, until cancelled.

    What is missing or is not what was stored gets a line in the log and a notice; nothing is
    changed or removed.

    Args:
        state: file that keeps how far it is, over restarts.
    """
    while True:
        try:
            finished = await _one_pass(
                archive,
                state,
                period=days * SECONDS_A_DAY,
                notices=Notices() if notices is None else notices,
                now=now,
            )
        except StorageError as error:
            log.warning("scrubbing rests: %s", error)
            finished = False
        if not finished:
            await trio.sleep(_IDLE_SECONDS)


async def _one_pass(
    archive: Archive, state: Path, *, period: float, notices: Notices, now: Callable[[], float]
) -> bool:
    """Whether there was anything."""
    current = await trio.to_thread.run_sync(ScrubPass.read, state)
    whole = await archive.index.statistics()
    skip = current.done
    if skip >= whole.instances:  # it has become smaller
        current, skip = ScrubPass(), 0
    seconds_a_byte = period / max(whole.size, 1)
    began = now() - current.seconds
    saved = now()
    async with archive.index.instances() as blocks:
        async for block in blocks:
            if skip >= len(block):
                skip -= len(block)
                continue
            for stored in block[skip:]:
                fault = await verify_instance(archive, stored)
                current.done += 1
                current.size += stored.size
                if fault is not None:
                    current.faults += 1
                    notices.publish(
                        ObjectDamaged(sop_instance_uid=stored.sop_instance_uid, fault=fault)
                    )
                    if current.faults <= _MOST_LINES:
                        log.error("scrubbing: instance %s: %s", stored.sop_instance_uid, fault)
                await trio.sleep(max(0.0, began + current.size * seconds_a_byte - now()))
                if now() - saved >= _SAVED_EVERY_SECONDS:
                    saved = now()
                    current.seconds = saved - began
                    await trio.to_thread.run_sync(current.write, state)
            skip = 0
    async with aclosing(archive.originals()) as originals:
        async for original in originals:
            error = await verify_original(archive, original)
            if isinstance(error, StorageError) and error.out_of_resources:
                raise error
            current.size += original.size
            if error is not None:
                current.faults += 1
                uid = original.sop_instance_uid
                notices.publish(ObjectDamaged(sop_instance_uid=uid, fault=str(error)))
                if current.faults <= _MOST_LINES:
                    log.error("scrubbing: the original of instance %s: %s", uid, error)
            await trio.sleep(max(0.0, began + current.size * seconds_a_byte - now()))
    if not current.done:
        return False
    level = logging.ERROR if current.faults else logging.INFO
    log.log(
        level,
        "scrubbing: %d objects were read, %d bytes; %d are not what was stored%s",
        current.done,
        current.size,
        current.faults,
        "; isocenter db verify names them all" if current.faults else "",
    )
    await trio.to_thread.run_sync(ScrubPass().write, state)
    return True
