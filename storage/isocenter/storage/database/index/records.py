"""Writing the index: what one transaction does, as plain functions on a `Connection`.

All statements of one `add` or `remove` are one transaction.  Counts are carried along as
differences (`isocenter.storage.database.index.counts`) and written once per touched row at the end,
where what has become empty also goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from time import time
from typing import Final, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    InstanceRecord,
    OtherPatient,
    StoredInstance,
)
from isocenter.storage.database.database import Connection, Cursor
from isocenter.storage.database.index.counts import Differences, Place
from isocenter.storage.database.index.lookup import (
    STORED_INSTANCE_WIDTH,
    Row,
    ask_rows,
    rows_of,
    stored_instance,
)
from isocenter.storage.database.index.name_words import PATIENT_NAME, write_words
from isocenter.storage.database.index.record_statements import (
    INSERT_INSTANCE,
    INSERT_PATIENT,
    INSERT_PATIENT_STATEMENT,
    INSERT_SERIES,
    INSERT_SERIES_STATEMENT,
    INSERT_STUDY,
    INSERT_STUDY_STATEMENT,
    SELECT_OF_PATIENT,
    SELECT_PATIENT,
    SELECT_PATIENT_PKS,
    SELECT_PATIENTS,
    SELECT_PLACE,
    SELECT_PLACES,
    SELECT_SERIES,
    SELECT_STUDY,
    SELECT_STUDY_STATEMENT,
)
from isocenter.storage.database.index.row_values import (
    IMAGE_TAGS,
    ISSUER_OF_PATIENT_ID,
    OF_PATIENT,
    OF_SERIES,
    OF_STUDY,
    PATIENT_ID,
    PATIENT_TAGS,
    TAGS_ABOVE,
    Values,
    fingerprint_of,
    identity_of,
    instance_order_of,
    row_values,
)
from isocenter.storage.database.index.totals import ask_said, said_by, sum_totals
from isocenter.storage.database.text import replace_surrogates

_STUDY_UID, _SERIES_UID = 0x0020000D, 0x0020000E
_SOP_UID, _SOP_CLASS, _INSTANCE_NUMBER = 0x00080018, 0x00080016, 0x00200013

_MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class _Study:
    """A study of this transaction."""

    pk: int
    #: Of each patient: how many objects named it before the transaction, and since when.
    patients: dict[int, tuple[int, int]]


#: UIDs of study and series, and what is said of all above the instance.
_Above = tuple[str, str, Values]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A record that is to be added, and what it says."""

    record: InstanceRecord
    get: Callable[[int, str], str]
    above: _Above


def _arrival(record: InstanceRecord) -> _Arrival:
    get = {
        **record.attributes,
        _STUDY_UID: record.study_instance_uid,
        _SERIES_UID: record.series_instance_uid,
        _SOP_UID: record.sop_instance_uid,
        _SOP_CLASS: record.sop_class_uid,
    }.get
    above = tuple([get(tag, "") for tag in TAGS_ABOVE])
    return _Arrival(record, get, (record.study_instance_uid, record.series_instance_uid, above))


class _Transaction:
    """What one call of `add_records` has seen, and does.

    Args:
        arrivals: what it may come to add; asked for together, since each answer that is waited
            for costs a message there and back.
    """

    def __init__(self, connection: Connection, arrivals: Sequence[_Arrival]) -> None:
        self._connection = connection
        self._places: dict[_Above, Place] = {}
        #: Patient and statement; None: it is not there yet.
        self._patients: dict[Values, tuple[int, int | None]] = {}
        self._studies: dict[str, _Study | None] = {}
        #: By study and patient: objects that came or went, and one of those that came.
        self._changes: dict[tuple[int, int], int] = defaultdict(int)
        self._examples: dict[tuple[int, int], str] = {}
        self._differences = Differences()
        self.rows_of: list[list[str | int]] = []
        self._now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._asked_said = ask_said(connection)
        self._asked_places = self._ask_places({arrival.above for arrival in arrivals})

    def begin(self) -> None:
        """Hear what was asked."""
        for key, cursor in self._asked_places:
            row = cursor.fetchone()
            if row is not None:
                *pks, count, patient_statement_pk = row
                place = self._places[key] = Place(*pks)
                study_uid, _, above = key
                self._patients[above[OF_PATIENT]] = place.patient_pk, patient_statement_pk
                self._studies[study_uid] = _Study(place.study_pk, {place.patient_pk: (count, 0)})
        self._totals = said_by(self._asked_said)
        self._last_said = max(self._totals.last_said, int(time() * _MICROSECONDS) - 1)

    def _ask_places(self, wanted: Collection[_Above]) -> list[tuple[_Above, Cursor]]:
        """Those that are there with all that is said of them: most objects are not the first."""
        asked = []
        for key in wanted:
            study_uid, series_uid, above = key
            values = (
                fingerprint_of(above[OF_PATIENT]),
                fingerprint_of(above[OF_STUDY]),
                series_uid,
                fingerprint_of(above[OF_SERIES]),
                study_uid,
            )
            asked.append((key, self._connection.execute(SELECT_PLACE, values)))
        return asked

    def put(self, arrival: _Arrival, known: Row | None, one_patient: bool) -> AddResult:
        """Add a record, in the place of *known*; unless it names another patient than its study
        came with, and there shall be one."""
        record, get, key = arrival.record, arrival.get, arrival.above
        *_, above = key
        place = self._places.get(key)
        previous = None if known is None else stored_instance(known)
        other = None
        study = self._study(record.study_instance_uid)
        if study is not None and (place is None or len(study.patients) > 1):
            other = self._other_patient(study, record, above[OF_PATIENT], known)
            if other is not None and one_patient:
                return AddResult(AddOutcome.OTHER_PATIENT, previous, other)
        if known is not None:
            # It may be the last of another study, or of another patient.
            self._connection.need_turn()
            gone = _forget(self._connection, known, self._differences)
            self._changes[gone.study_pk, gone.patient_pk] -= 1
        said = self._said(record.stored_at)
        if place is None:
            place = self._places[key] = self._make_place(*key, said)
        self._changes[place.study_pk, place.patient_pk] += 1
        self._examples[place.study_pk, place.patient_pk] = record.sop_instance_uid
        self.rows_of.append(
            [
                place.series_pk,
                place.study_statement_pk,
                place.series_statement_pk,
                *row_values(Level.IMAGE, [get(tag, "") for tag in IMAGE_TAGS]),
                record.transfer_syntax_uid,
                replace_surrogates(record.object_key),
                record.size,
                record.data_set_offset,
                record.digest,
                self._now,
                instance_order_of(record.attributes.get(_INSTANCE_NUMBER, "")),
            ]
        )
        self._differences.added(place, record.sop_class_uid, record.size, said)
        if known is None and other is None:
            return _ADDED
        return AddResult(
            AddOutcome.ADDED if known is None else AddOutcome.REPLACED, previous, other
        )

    def write(self) -> bool:
        """Write what there is to be written; whether there is anything."""
        if self.rows_of:
            inserted = (INSERT_INSTANCE, self.rows_of)
            self._differences.write(self._connection, self._last_said, [inserted])
            if self._totals.wants_sum:
                sum_totals(self._connection)
        return bool(self.rows_of)

    def _other_patient(
        self, study: _Study, record: InstanceRecord, of_patient: Values, known: Row | None
    ) -> OtherPatient | None:
        patient = self._patient(of_patient)
        patient_pk = None if patient is None else patient[0]
        counts = {
            pk: count + self._changes[study.pk, pk] for pk, (count, _) in study.patients.items()
        }
        if known is not None and (previous := _place(known)).study_pk == study.pk:
            counts[previous.patient_pk] -= 1
        there = [pk for pk, count in counts.items() if count > 0]
        if not there:
            return None
        first = min(there, key=lambda pk: study.patients[pk][1])
        if first == patient_pk:
            return None
        return OtherPatient(
            self._example(study.pk, first, record.sop_instance_uid),
            is_first=patient_pk not in there,
        )

    def _example(self, study_pk: int, patient_pk: int, but: str) -> str:
        uid = self._examples.get((study_pk, patient_pk))
        if uid is None or uid == but:
            row = self._connection.execute(
                SELECT_OF_PATIENT, (study_pk, patient_pk, but)
            ).fetchone()
            uid = "" if row is None else str(row[0])
            self._examples[study_pk, patient_pk] = uid
        return uid

    def _make_place(self, study_uid: str, series_uid: str, above: Values, said: int) -> Place:
        patient_pk, patient_statement_pk = self._new_patient(above[OF_PATIENT])
        study = self._study(study_uid) or self._new_study(study_uid)
        if patient_pk not in study.patients:
            study.patients[patient_pk] = (0, said)
        study_statement_pk = self._new_study_statement(
            study.pk, patient_statement_pk, above[OF_STUDY], said
        )
        series_pk, series_statement_pk = self._new_series(
            study.pk, series_uid, above[OF_SERIES], said
        )
        return Place(
            series_pk=series_pk,
            study_pk=study.pk,
            patient_pk=patient_pk,
            series_statement_pk=series_statement_pk,
            study_statement_pk=study_statement_pk,
        )

    def _said(self, stored_at: float | None) -> int:
        """When a record says what it says: one after the other, unless it is one of before."""
        if stored_at is None:
            self._last_said += 1
            return self._last_said
        said = int(stored_at * _MICROSECONDS)
        self._last_said = max(self._last_said, said)
        return said

    def _patient(self, values: Values) -> tuple[int, int | None] | None:
        """The patient that *values* name, and the statement that says just this, if it is there."""
        known = self._patients.get(values)
        if known is None:
            known = self._connection.execute(
                SELECT_PATIENT, (fingerprint_of(values), identity_of(values))
            ).fetchone()
            if known is not None:
                self._patients[values] = known
        return known

    def _new_patient(self, values: Values) -> tuple[int, int]:
        """The same, made where they are not there."""
        known = self._patient(values)
        texts = dict(zip(PATIENT_TAGS, map(replace_surrogates, values), strict=True))
        if known is None:
            (patient_pk,) = self._connection.execute(
                INSERT_PATIENT,
                (identity_of(values), texts[PATIENT_ID], texts[ISSUER_OF_PATIENT_ID]),
            ).fetchone()
            self._differences.patients += 1
            statement_pk = None
        else:
            patient_pk, statement_pk = known
        if statement_pk is None:
            (statement_pk,) = self._connection.execute(
                INSERT_PATIENT_STATEMENT,
                (patient_pk, fingerprint_of(values), 1, *row_values(Level.PATIENT, values)),
            ).fetchone()
            write_words(self._connection, int(statement_pk), texts[PATIENT_NAME])
            self._patients[values] = patient_pk, statement_pk
        assert statement_pk is not None
        return patient_pk, statement_pk

    def _study(self, uid: str) -> _Study | None:
        if uid not in self._studies:
            row = self._connection.execute(SELECT_STUDY, (uid,)).fetchone()
            study = None
            if row is not None:
                study_pk, count, patient_pk, has_others = row
                study = _Study(study_pk, {patient_pk: (count, 0)})
                execute = self._connection.execute
                if has_others and len(execute(SELECT_PATIENT_PKS, (study_pk,)).fetchall()) > 1:
                    rows = execute(SELECT_PATIENTS, (study_pk,))
                    study.patients = {pk: (count, since) for pk, count, since in rows}
            self._studies[uid] = study
        return self._studies[uid]

    def _new_study(self, uid: str) -> _Study:
        (pk,) = self._connection.execute(INSERT_STUDY, (uid,)).fetchone()
        self._differences.studies += 1
        study = self._studies[uid] = _Study(pk, {})
        return study

    def _new_study_statement(
        self, study_pk: int, patient_statement_pk: int, values: Values, said: int
    ) -> int:
        """The statement, made where it is not there."""
        key = (study_pk, patient_statement_pk, fingerprint_of(values))
        row = self._connection.execute(SELECT_STUDY_STATEMENT, key).fetchone()
        if row is None:
            row = self._connection.execute(
                INSERT_STUDY_STATEMENT, (*key, said, said, *row_values(Level.STUDY, values))
            ).fetchone()
        return int(row[0])

    def _new_series(self, study_pk: int, uid: str, values: Values, said: int) -> tuple[int, int]:
        """The series and the statement, made where they are not there."""
        fingerprint = fingerprint_of(values)
        row = self._connection.execute(SELECT_SERIES, (fingerprint, uid, study_pk)).fetchone()
        series_pk, statement_pk = (None, None) if row is None else row
        if series_pk is None:
            (series_pk,) = self._connection.execute(INSERT_SERIES, (study_pk, uid)).fetchone()
            self._differences.new_series(study_pk)
        if statement_pk is None:
            (statement_pk,) = self._connection.execute(
                INSERT_SERIES_STATEMENT,
                (series_pk, study_pk, fingerprint, said, said, *row_values(Level.SERIES, values)),
            ).fetchone()
        return int(series_pk), int(statement_pk)


Added = Sequence[tuple[InstanceRecord, AddResult]]
#: What is still to be looked at when all was sent: an answer that nobody has waited for.
Check = Callable[[], None]
#: What else the transaction of an `add` writes: given the records that it added, or put in the
#: place of others, with what became of each.
AddHook = Callable[[Connection, Added], Check | None]


def call_add_hooks(hooks: Sequence[AddHook], connection: Connection, added: Added) -> None:
    """Have them write, then look at what they have asked for."""
    checks = [each(connection, added) for each in hooks]
    for check in checks:
        if check is not None:
            check()


class Arrivals(Protocol):
    """What is said of objects that come, in the transaction of an `add`."""

    def ask(
        self, connection: Connection, records: Sequence[InstanceRecord]
    ) -> Callable[[], Sequence[InstanceRecord]]:
        """What gives what the index is to say of *records*, which say what the objects do.

        What is asked before it is called is asked in one message.
        """
        ...

    def added(
        self,
        connection: Connection,
        added: Sequence[tuple[InstanceRecord, InstanceRecord, AddResult]],
        now: float,
    ) -> None:
        """Of each that was added: as it came, as the index says it, and what became of it."""
        ...


def lock_names_of(records: Sequence[InstanceRecord]) -> set[str]:
    """What those who add objects at once have to have for themselves: studies and patients."""
    names = set()
    for record in records:
        get = record.attributes.get
        names.add(f"study {record.study_instance_uid}")
        names.add(f"patient {identity_of(tuple([get(tag, '') for tag in PATIENT_TAGS]))}")
    return names


class Addition:
    """Records that are to be added, and what was asked of them: nobody has waited for it yet."""

    def __init__(
        self,
        connection: Connection,
        records: Sequence[InstanceRecord],
        arrivals: Arrivals | None = None,
    ) -> None:
        self._arrivals = arrivals
        self._came = records
        self._corrected = None if arrivals is None else arrivals.ask(connection, records)
        self._ask(connection, records)

    def _ask(self, connection: Connection, records: Sequence[InstanceRecord]) -> None:
        uids = [record.sop_instance_uid for record in records]
        self._known = ask_rows(connection, SELECT_PLACES, uids)
        self._coming = [_arrival(record) for record in records]
        self._work = _Transaction(connection, self._coming)

    def add(
        self,
        connection: Connection,
        replace: bool,
        on_add: Sequence[AddHook],
        one_patient: bool,
        unless_same: bool,
    ) -> list[AddResult]:
        """See `add_records`."""
        came = records = self._came
        if self._corrected is not None:
            records = self._corrected()
            if records is not came:
                self._ask(connection, records)
        outcomes = self._put(replace, one_patient, unless_same)
        arrivals = self._arrivals
        if self._work.write() and (on_add or arrivals is not None):
            put = [
                (before, record, outcome)
                for before, record, outcome in zip(came, records, outcomes, strict=True)
                if outcome.outcome in _PUT
            ]
            if arrivals is not None:
                arrivals.added(connection, put, time())
            call_add_hooks(on_add, connection, [(record, outcome) for _, record, outcome in put])
        return outcomes

    def _put(self, replace: bool, one_patient: bool, unless_same: bool) -> list[AddResult]:
        known = {row[0]: row for cursor in self._known for row in cursor}
        work = self._work
        work.begin()
        outcomes = []
        for arrival in self._coming:
            record = arrival.record
            row = known.get(record.sop_instance_uid)
            if row is not None and (
                not replace or (unless_same and record.digest in row[_DIGEST:STORED_INSTANCE_WIDTH])
            ):
                outcomes.append(AddResult(AddOutcome.DUPLICATE, stored_instance(row)))
            else:
                outcomes.append(work.put(arrival, row, one_patient))
        return outcomes


def add_records(
    connection: Connection,
    records: Sequence[InstanceRecord],
    replace: bool,
    on_add: Sequence[AddHook] = (),
    one_patient: bool = False,
    unless_same: bool = False,
) -> list[AddResult]:
    """`isocenter.services.archive.ports.Index.add`, as one transaction."""
    addition = Addition(connection, records)
    return addition.add(connection, replace, on_add, one_patient, unless_same)


_ADDED: Final = AddResult(AddOutcome.ADDED)
#: The last two of `STORED_INSTANCE_COLUMNS` are digests.
_DIGEST: Final = STORED_INSTANCE_WIDTH - 2
_PUT: Final = frozenset({AddOutcome.ADDED, AddOutcome.REPLACED})


def _places(connection: Connection, uids: Sequence[str]) -> dict[str, Row]:
    return rows_of(connection, SELECT_PLACES, uids)


def _place(row: Row) -> Place:
    return Place(*map(int, row[STORED_INSTANCE_WIDTH + 1 :]))


def _forget(connection: Connection, row: Row, differences: Differences) -> Place:
    connection.execute("DELETE FROM instance WHERE instance_pk = ?", (row[STORED_INSTANCE_WIDTH],))
    place = _place(row)
    differences.removed(place, str(row[1]), int(row[6]))
    return place


#: What else the transaction of a `remove` writes, given the keys of the objects.
RemoveHook = Callable[[Connection, Sequence[str]], None]


def remove_records(
    connection: Connection, uids: Sequence[str], on_remove: RemoveHook | None = None
) -> None:
    """`isocenter.services.archive.ports.Index.remove`, as one transaction."""
    removed = remove_within(connection, uids)
    if on_remove is not None:
        on_remove(connection, [stored.object_key for stored in removed])


def remove_within(connection: Connection, uids: Sequence[str]) -> list[StoredInstance]:
    """Forget instances within the caller's transaction; those that there were."""
    differences = Differences()
    rows = _places(connection, uids)
    for row in rows.values():
        _forget(connection, row, differences)
    if rows:
        differences.write(connection)
    return [stored_instance(row) for row in rows.values()]


#: What is made from objects; what others refer to is last.
RECORD_TABLES: Final = (
    "instance_metadata",
    "series_metadata",
    "instance",
    "series_statement",
    "series",
    "study_sop_class",
    "study_statement",
    "study",
    "patient_name_word",
    "patient_statement",
    "patient",
    "totals",
    "totals_change",
)


def probe_records(connection: Connection) -> None:
    """`isocenter.services.archive.ports.Index.probe`: a page is written, with what was in it."""
    connection.execute("UPDATE totals SET size = size")
