"""Bringing to its end what somebody has begun to delete, restore or purge.

The book says what is to become of each object; its file follows, then it is told, and then the book
knows it.  Whoever does it again after a crash does the same.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Final

from isocenter.services.archive.deletion.inspection import manifest_of
from isocenter.services.archive.deletion.ports import (
    DeletionRecord,
    TrashBook,
    TrashedInstance,
    TrashFiles,
    TrashState,
)
from isocenter.services.archive.deletion.records import DeletedStudy
from isocenter.services.archive.deletion.values import Recorder, TrashChange, TrashChanged
from isocenter.services.archive.ports import StoredInstance

log = logging.getLogger("isocenter.storage")

#: Objects whose files follow, and which are told of, together: those of a large study.
_FINISHED_AT_ONCE: Final = 20_000
#: More than can be left half done.
_MOST_UNFINISHED: Final = 1 << 31


async def finish(
    book: TrashBook,
    files: TrashFiles,
    record: Recorder,
    sync: Callable[[], Awaitable[None]],
) -> int:
    """Bring everything to its end, with the lock of *files* held; how many objects it was.

    Args:
        sync: has what the book says survive a power failure, before files follow.
    """
    done = 0
    while rows := await book.unfinished(_FINISHED_AT_ONCE):
        await sync()
        for (deletion_id, state, _), group in groupby(sorted(rows, key=_group_of), key=_group_of):
            await _finish_group(book, files, record, deletion_id, TrashState(state), list(group))
        done += len(rows)
    return done


async def on_their_way(book: TrashBook) -> dict[str, StoredInstance]:
    """By their keys, objects half way to the trash, or back; the index has none of them."""
    found: dict[str, StoredInstance] = {}
    for row in await book.unfinished(_MOST_UNFINISHED):
        if row.state is TrashState.LEAVING:
            found[row.stored.object_key] = row.stored
        elif row.state is TrashState.RETURNING:
            found[row.target_key] = row.stored
    return found


async def _finish_group(
    book: TrashBook,
    files: TrashFiles,
    record: Recorder,
    deletion_id: str,
    state: TrashState,
    rows: Sequence[TrashedInstance],
) -> None:
    numbers = [row.number for row in rows]
    keys = [row.stored.object_key for row in rows]
    match state:
        case TrashState.LEAVING:
            if rows[0].cause.withholds:  # a rule may have said so when they came, with no folder
                await files.begin(deletion_id, manifest_of(_deletion_of(rows[0])))
            for key in await files.take(deletion_id, keys):
                log.error("a deleted object had no file: %s", key)
            await record(_changes(TrashChange.DELETED, rows))
            await book.settle(numbers)
        case TrashState.RETURNING:
            for row in rows:
                await files.take_again(deletion_id, row.stored.object_key, row.target_key)
            await book.settle(numbers)
        case TrashState.RETURNED | TrashState.PURGING:
            await files.remove(deletion_id, keys)
            what = TrashChange.RESTORED if state is TrashState.RETURNED else TrashChange.PURGED
            await record(_changes(what, rows))
            for ended in await book.forget(numbers):
                await files.end(ended)
        case _:
            raise AssertionError(f"{state} is no work")


def _deletion_of(row: TrashedInstance) -> DeletionRecord:
    return DeletionRecord(
        deletion_id=row.deletion_id,
        cause=row.cause,
        at=row.at,
        purge_at=row.purge_at,
        actor=row.actor,
        reason=row.reason,
    )


def _group_of(row: TrashedInstance) -> tuple[str, str, str]:
    return row.deletion_id, row.state.value, row.actor


def _changes(what: TrashChange, rows: Sequence[TrashedInstance]) -> list[TrashChanged]:
    by_study: dict[str, list[TrashedInstance]] = defaultdict(list)
    for row in rows:
        by_study[row.stored.study_instance_uid].append(row)
    return [
        TrashChanged(
            what=what,
            study=DeletedStudy(
                study_instance_uid=study,
                accession_number="",
                sop_classes=Counter(each.stored.sop_class_uid for each in some),
                remaining=some[0].remaining,
                patient_id=some[0].patient_id,
                patient_name=some[0].patient_name,
            ),
            cause=some[0].cause,
            actor=some[0].actor,
            reason=some[0].reason,
            deletion_id=some[0].deletion_id,
        )
        for study, some in by_study.items()
    ]
