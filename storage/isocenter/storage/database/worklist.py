"""The worklist in the index database: `isocenter.services.service_classes.worklist.ports.Worklist`.

The data set is the truth.  The columns beside it narrow a question down by index; what is
left is judged by `isocenter.services.service_classes.worklist.query_keys.Keys.matches`, entry by
entry.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from time import time
from typing import Final

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.matching import is_wild, normalize, range_bounds
from isocenter.services.archive.index.query import Match, Range, SingleValue
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.mpps.performed_step import PerformedStep, StepState
from isocenter.services.service_classes.worklist.entry import (
    ACCESSION_NUMBER,
    MODALITY,
    PATIENT_ID,
    STATION_AE_TITLE,
    STUDY_INSTANCE_UID,
    Entry,
    EntryKey,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.mpps_following import state_after_steps
from isocenter.services.service_classes.worklist.ports import (
    FOLDER_SOURCE,
    EntryConflictError,
    PutResult,
    StoredEntry,
    with_state,
)
from isocenter.services.service_classes.worklist.query_keys import (
    SCHEDULED_STEPS,
    START_DATE,
    START_TIME,
    Keys,
)
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import IN_ORDER, LOOKED_UP, NO_LIMIT, json_list

#: What is done in the transaction of a change: the entry before (None: it is new) and after
#: (None: it is gone).
ChangeHook = Callable[[Connection, StoredEntry | None, StoredEntry | None], None]

#: Entries of one hop to the database's thread.
BLOCK_ROWS: Final = 100

#: Entries that leave the list in one transaction, because they have ended.
_REMOVED: Final = 500

#: What was kept was judged when it came.
_KEPT_LIMITS: Final = replace(DEFAULT_LIMITS, identifier=1 << 30, identifier_elements=1 << 30)

_COLUMNS: Final = "entry_pk, state, source, created_at, changed_at, data_set"
#: Column → where its attribute stands, and its VR.
_NARROWING: Final = {
    "accession_number": ((ACCESSION_NUMBER,), "SH"),
    "station_ae_title": ((SCHEDULED_STEPS, STATION_AE_TITLE), "AE"),
    "modality": ((SCHEDULED_STEPS, MODALITY), "CS"),
    "patient_id": ((PATIENT_ID,), "LO"),
    "study_instance_uid": ((STUDY_INSTANCE_UID,), "UI"),
}


class DatabaseWorklist:
    """See `isocenter.services.service_classes.worklist.ports.Worklist`.

    Args:
        on_change: what else is written in the transaction of each change of an entry.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._changes = Changes(tuple(on_change), now)

    async def put(
        self,
        entries: Sequence[Entry],
        *,
        source: str,
        whole: bool = False,
        states: Mapping[EntryKey, EntryState] | None = None,
        cancel: Sequence[EntryKey] = (),
        found: Mapping[EntryKey, EntryState] | None = None,
    ) -> PutResult:
        """See `Worklist.put`."""
        return await self._database.write(
            _put, entries, source, whole, states or {}, cancel, found or {}, self._changes
        )

    async def change(
        self, key: EntryKey, change: Callable[[Entry], Entry], state: EntryState | None = None
    ) -> bool:
        """Put what *change* makes of an entry in its place, also when its key is another then.

        False: there is no such entry.  What *change* raises comes out, and nothing was changed.

        Raises:
            InvalidEntryError: there is another entry with the new key.
        """
        return await self._database.write(_change, key, change, state, self._changes)

    async def remove(self, keys: Sequence[EntryKey]) -> int:
        """See `Worklist.remove`."""
        return await self._database.write(_remove, keys, self._changes)

    async def set_state(self, key: EntryKey, state: EntryState) -> bool:
        """See `Worklist.set_state`."""
        return await self._database.write(_set_state, key, state, self._changes)

    async def get(self, key: EntryKey) -> StoredEntry | None:
        """See `Worklist.get`."""
        return await self._database.read(_get, key)

    async def numbered(self, number: int) -> StoredEntry | None:
        """See `Worklist.numbered`."""
        return await self._database.read(_numbered, number)

    async def find_by_accession_number(self, accession_number: str) -> Sequence[StoredEntry]:
        """See `Worklist.find_by_accession_number`."""
        return await self._database.read(_find_by_accession_number, accession_number)

    async def sources(self) -> Sequence[str]:
        """See `Worklist.sources`."""
        return await self._database.read(_sources)

    async def remove_ended(self, before: float) -> int:
        """Take completed and discontinued entries off that have not changed since *before*.

        Some at a time: others write, too.  How many; 0: there are no more.
        """
        return await self._database.write(_remove_ended, before, self._changes)

    @asynccontextmanager
    async def find(
        self, keys: Keys, states: Sequence[EntryState]
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredEntry]]]:
        """See `Worklist.find`."""
        async with aclosing(self._blocks(keys, states)) as blocks:
            yield blocks

    async def _blocks(
        self, keys: Keys, states: Sequence[EntryState]
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        numbers = await self._database.read(_matching_numbers, keys, states)
        for start in range(0, len(numbers), BLOCK_ROWS):
            block = await self._database.read(_rows, numbers[start : start + BLOCK_ROWS])
            found = [stored for stored in block if keys.matches(with_state(stored))]
            if found:
                yield found


class Changes:
    """Tells those who write beside the worklist of each change."""

    def __init__(self, on_change: tuple[ChangeHook, ...], now: Callable[[], float]) -> None:
        self._on_change = on_change
        self.now = now

    def write_event(
        self, connection: Connection, before: StoredEntry | None, after: StoredEntry | None
    ) -> None:
        for each in self._on_change:
            each(connection, before, after)


class FollowSteps:
    """Gives the entries that a performed step answers the state that follows from its steps.

    For `isocenter.storage.database.performed_steps`.

    Args:
        discontinued: the state of an entry whose steps were all discontinued.
        on_change, now: as of `DatabaseWorklist`.
    """

    def __init__(
        self,
        discontinued: EntryState,
        *,
        on_change: Sequence[ChangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._discontinued = discontinued
        self._changes = Changes(tuple(on_change), now)

    def step_changed(
        self, connection: Connection, _before: PerformedStep | None, step: PerformedStep
    ) -> None:
        """A step was created or changed."""
        for scheduled in step.scheduled:
            key = EntryKey(scheduled.scheduled_step_id, scheduled.accession_number)
            if not key.step_id or _get(connection, key) is None:
                continue
            rows = connection.execute(
                "SELECT DISTINCT state FROM performed_step JOIN performed_step_scheduled "
                "USING (step_pk) WHERE scheduled_step_id = ? AND accession_number = ?",
                (key.step_id, key.accession_number),
            )
            states = [StepState(state) for (state,) in rows]
            state = state_after_steps(states, self._discontinued)
            _change_state(connection, key, state, self._changes)


def _stored(row: Sequence[object]) -> StoredEntry:
    number, state, source, created_at, changed_at, data_set = row
    assert isinstance(number, int)
    assert isinstance(created_at, float)
    assert isinstance(changed_at, float)
    assert isinstance(data_set, bytes)
    return StoredEntry(
        number=number,
        state=EntryState(state),
        source=str(source),
        created_at=created_at,
        changed_at=changed_at,
        entry=Entry(AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, _KEPT_LIMITS)),
    )


def _select(
    connection: Connection, where: str, values: Sequence[object], limit: int = NO_LIMIT
) -> list[StoredEntry]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM worklist WHERE {where} ORDER BY step_id LIMIT ?", (*values, limit)
    )
    return [_stored(row) for row in rows.fetchall()]


def _sources(connection: Connection) -> list[str]:
    return [source for (source,) in connection.execute("SELECT DISTINCT source FROM worklist")]


def _get(connection: Connection, key: EntryKey) -> StoredEntry | None:
    found = _select(
        connection, "step_id = ? AND accession_number = ?", (key.step_id, key.accession_number)
    )
    return found[0] if found else None


def _numbered(connection: Connection, number: int) -> StoredEntry | None:
    found = _select(connection, "entry_pk = ?", (number,))
    return found[0] if found else None


def _find_by_accession_number(connection: Connection, accession_number: str) -> list[StoredEntry]:
    return _select(connection, "accession_number = ?", (accession_number,))


def _rows(connection: Connection, numbers: Sequence[int]) -> list[StoredEntry]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM {IN_ORDER} "
        f"{LOOKED_UP} worklist ON entry_pk = wanted.value ORDER BY wanted.key",
        (json_list(numbers),),
    )
    return [_stored(row) for row in rows.fetchall()]


def _matching_numbers(
    connection: Connection, keys: Keys, states: Sequence[EntryState]
) -> list[int]:
    """The entries that may match, the earliest first."""
    terms = [f"state IN ({', '.join('?' * len(states))})"]
    values: list[str] = [state.value for state in states]
    for term, bound in _narrowing(keys):
        terms.append(term)
        values += bound
    rows = connection.execute(
        f"SELECT entry_pk FROM worklist WHERE {' AND '.join(terms)} "
        "ORDER BY start_date, start_time, entry_pk",
        values,
    )
    return [row[0] for row in rows.fetchall()]


def _narrowing(keys: Keys) -> Iterator[tuple[str, list[str]]]:
    """Conditions that every match satisfies; a column with several values satisfies all."""
    for column, (path, vr) in _NARROWING.items():
        match = keys.match(*path)
        if isinstance(match, SingleValue) and not is_wild(vr, match.value):
            yield (
                f"({column} = ? OR {column} LIKE '%\\%' ESCAPE '!')",
                [normalize(vr, match.value)],
            )
    low, high = _days(keys)
    if low is not None:
        yield "start_date >= ?", [low]
    if high is not None:
        yield "start_date <= ?", [high]


def _days(keys: Keys) -> tuple[str | None, str | None]:
    """The first and the last day that can match; None: any."""
    if keys.combined is not None:
        low, high = keys.combined.low, keys.combined.high
        return low and low[:8], high and high[:8]
    match: Match | None = keys.match(SCHEDULED_STEPS, START_DATE)
    if isinstance(match, Range):
        return range_bounds("DA", match)
    if isinstance(match, SingleValue):
        day = normalize("DA", match.value)
        return day, day
    return None, None


def _put(
    connection: Connection,
    entries: Sequence[Entry],
    source: str,
    whole: bool,
    states: Mapping[EntryKey, EntryState],
    cancel: Sequence[EntryKey],
    found: Mapping[EntryKey, EntryState],
    changes: Changes,
) -> PutResult:
    added = changed = unchanged = 0
    for key, state in found.items():
        stored = _get(connection, key)
        # One that has gone meanwhile is as good as cancelled.
        if stored is not None and stored.state is not state:
            raise EntryConflictError("an entry has another state than before")
    removed = _remove_these(connection, cancel, changes)
    for entry in entries:
        before = _get(connection, entry.key)
        state = states.get(entry.key, before.state if before else EntryState.SCHEDULED)
        if before is None:
            added += 1
        elif (before.source, before.entry, before.state) == (source, entry, state):
            unchanged += 1
            continue
        else:
            changed += 1
        _write(connection, entry, state, source, before, changes.now())
        changes.write_event(connection, before, _get(connection, entry.key))
    written = {entry.key for entry in entries}
    for key, state in states.items():
        if key not in written:
            changed += _change_state(connection, key, state, changes)
    if whole:
        gone = [
            stored
            for stored in _select(connection, "source = ? AND state = 'SCHEDULED'", (source,))
            if stored.entry.key not in written
        ]
        removed += _delete(connection, gone, changes)
        # What was begun stays, and nobody has it any more.
        others = [
            stored
            for stored in _select(connection, "source = ?", (source,))
            if stored.entry.key not in written
        ]
        connection.executemany(
            "UPDATE worklist SET source = '' WHERE entry_pk = ?",
            [(stored.number,) for stored in others],
        )
    return PutResult(added=added, changed=changed, unchanged=unchanged, removed=removed)


def _change(
    connection: Connection,
    key: EntryKey,
    change: Callable[[Entry], Entry],
    state: EntryState | None,
    changes: Changes,
) -> bool:
    before = _get(connection, key)
    if before is None:
        return False
    entry = change(before.entry)
    if entry.key != key and _get(connection, entry.key) is not None:
        raise InvalidEntryError("the entry: there is another one with this step ID and accession")
    _write(connection, entry, state or before.state, before.source, before, changes.now())
    changes.write_event(connection, before, _get(connection, entry.key))
    return True


def _write(
    connection: Connection,
    entry: Entry,
    state: EntryState,
    source: str,
    before: StoredEntry | None,
    now: float,
) -> None:
    values = {
        "step_id": entry.key.step_id,
        "accession_number": entry.key.accession_number,
        "state": state.value,
        "source": source,
        "station_ae_title": entry.step_text(STATION_AE_TITLE),
        "modality": entry.step_text(MODALITY),
        "start_date": normalize("DA", entry.step_text(START_DATE)),
        "start_time": normalize("TM", entry.step_text(START_TIME)),
        "patient_id": normalize("LO", entry.text(PATIENT_ID)),
        "study_instance_uid": entry.text(STUDY_INSTANCE_UID),
        "changed_at": now,
        "data_set": entry.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN),
    }
    if before is None:
        values["created_at"] = now
        connection.execute(
            f"INSERT INTO worklist ({', '.join(values)}) "
            f"VALUES ({', '.join(f':{name}' for name in values)})",
            values,
        )
    else:
        connection.execute(
            f"UPDATE worklist SET {', '.join(f'{name} = :{name}' for name in values)} "
            "WHERE entry_pk = :entry_pk",
            values | {"entry_pk": before.number},
        )


def _delete(connection: Connection, stored: Sequence[StoredEntry], changes: Changes) -> int:
    for each in stored:
        connection.execute("DELETE FROM worklist WHERE entry_pk = ?", (each.number,))
        changes.write_event(connection, each, None)
    return len(stored)


def _remove(connection: Connection, keys: Sequence[EntryKey], changes: Changes) -> int:
    return _remove_these(connection, keys, changes)


def _remove_these(connection: Connection, keys: Sequence[EntryKey], changes: Changes) -> int:
    found = [stored for key in dict.fromkeys(keys) if (stored := _get(connection, key)) is not None]
    return _delete(connection, found, changes)


def _remove_ended(connection: Connection, before: float, changes: Changes) -> int:
    found = _select(
        connection,
        "state IN ('COMPLETED', 'DISCONTINUED') AND changed_at < ? "
        "AND substr(source, 1, length(?)) <> ?",
        # A file that still lies there would bring its entry back, as one to be done.
        (before, FOLDER_SOURCE, FOLDER_SOURCE),
        limit=_REMOVED,
    )
    return _delete(connection, found, changes)


def _set_state(connection: Connection, key: EntryKey, state: EntryState, changes: Changes) -> bool:
    return _change_state(connection, key, state, changes)


def _change_state(
    connection: Connection, key: EntryKey, state: EntryState, changes: Changes
) -> bool:
    before = _get(connection, key)
    if before is None:
        return False
    if before.state is not state:
        connection.execute(
            "UPDATE worklist SET state = ?, changed_at = ? WHERE entry_pk = ?",
            (state.value, changes.now(), before.number),
        )
        changes.write_event(connection, before, _get(connection, key))
    return True
