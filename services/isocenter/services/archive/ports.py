"""Ports of the archive: object store and index.

Adapters live in `isocenter.storage` (or in anybody's package) and are handed in
where the server is put together; nothing in the services imports one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from enum import Enum
from typing import Final, Protocol, runtime_checkable

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.query import FoundPage, Page, Query
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.orders import CompressionOrder, Route
from isocenter.services.archive.validation.mark import ValidationMark
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError


class DuplicatePolicy(Enum):
    """What happens to an object whose SOP Instance UID the archive has already."""

    IGNORE = "ignore"
    REPLACE = "replace"
    REJECT = "reject"


class OtherPatientPolicy(Enum):
    """What happens to an object that names another patient than its study came with."""

    #: Kept, and found under both.
    ACCEPT = "accept"
    #: The same, and whoever sent it is told (B000H).
    WARN = "warn"
    #: Refused (A900H).
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInstance:
    """One object of the archive, as needed to find its bytes and to send them."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    #: Where the object store keeps it: ``/``-separated, relative, made of validated parts.
    object_key: str
    #: Bytes of the whole Part 10 file.
    size: int
    #: Where in the file the data set starts; the bytes from there on are what came over the wire.
    data_set_offset: int
    #: SHA-256 of the data set bytes, 64 hexadecimal digits.
    digest: str
    #: The same of the data set as it came, where it is kept in another transfer syntax than that;
    #: empty: it is kept as it came.
    received_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord(StoredInstance):
    """What the index keeps of one object: a stored instance and its attributes.

    ``attributes`` maps a tag (0xggggeeee) to its decoded text, several values joined by
    a backslash, without padding; only tags of `isocenter.services.archive.index.attributes` are
    kept. ``source_ae_title`` is who sent it, ``routes`` is where rules send it, ``compression``
    how rules have it kept, and ``analyses`` names the AI services that rules have it for, for what
    is written beside the index; the index does not keep them.
    ``expires_by`` is the rule that has it deleted some time, with all of its study, and
    ``expires_under`` says by which conditions.
    ``quarantine`` is why it is withheld; empty: it is not.  ``is_signed``: it has digital
    signatures of its own.  ``validation`` is what validation found in it; None: nobody looked.
    ``stored_at`` (seconds since 1970) is when it was stored, where that is not now.
    """

    attributes: Mapping[int, str] = field(default_factory=dict)
    source_ae_title: str = ""
    routes: tuple[Route, ...] = ()
    compression: CompressionOrder | None = None
    analyses: tuple[str, ...] = ()
    expires_by: str = ""
    expires_under: str = ""
    quarantine: str = ""
    validation: ValidationMark | None = None
    is_signed: bool = False
    stored_at: float | None = None


class AddOutcome(Enum):
    """What became of one record handed to `Index.add`."""

    ADDED = "added"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    #: The study is another patient's, and that was not to be; nothing was added.
    OTHER_PATIENT = "other patient"
    #: It is kept, and withheld: the index does not know it.
    QUARANTINED = "quarantined"
    #: It is withheld already, byte for byte; what was sent now is superfluous.
    ALREADY_QUARANTINED = "already quarantined"
    #: A rejection note has rejected it; it is not wanted again.
    REFUSED = "refused"
    #: The same, and nobody is told.
    IGNORED = "ignored"

    @property
    def is_kept_out(self) -> bool:
        """Whether the index has nothing to do with what was sent now."""
        return self in _KEPT_OUT


_KEPT_OUT: Final = frozenset(
    {
        AddOutcome.QUARANTINED,
        AddOutcome.ALREADY_QUARANTINED,
        AddOutcome.REFUSED,
        AddOutcome.IGNORED,
    }
)


@dataclass(frozen=True, slots=True)
class OtherPatient:
    """A record names another patient than its study came with.

    Attributes:
        sop_instance_uid: an object of the study that names the patient it came with.
        is_first: no object of the study named this patient before.
    """

    sop_instance_uid: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class AddResult:
    """The answer for one record; ``previous`` is the object that was there before, if any.

    Attributes:
        rejection: code of the note that has rejected it (PS3.16 CID 7011).
    """

    outcome: AddOutcome
    previous: StoredInstance | None = None
    other_patient: OtherPatient | None = None
    rejection: str = ""


class Index(Protocol):
    """Knows what the archive holds, and finds it.

    Every method may be called from several tasks at once.  Failures are `StorageError`.

    What all adapters agree on (``tests/storage/index_contract.py`` holds them to it):

    * What an object says of its patient, study and series is kept as it says it, for as long
      as the object is there.  Of objects that differ none is right: each is findable by its own.
    * Patients are told apart by Patient ID and Issuer of Patient ID; where the ID is empty,
      also by name and birth date.
    * A study belongs to every patient that one of its objects names, as a whole.  A series is
      one of its study, so the same Series Instance UID in two studies makes two series.
    * A patient matches when one of its objects says all that is asked of the patient, a study
      when one of its objects says all that is asked of patient and study, a series when one
      of its objects says what is asked of the series and its study matches; and so on.
    * An answer shows what was said last (first: `Query.shows_first`) among what matches; for an
      instance what it says itself, if that matches.  What that leaves empty, and was not
      asked for, is filled from the other objects that name the same patient
      (`isocenter.services.archive.index.shown_values`).
    * Counts, Modalities in Study and SOP Classes in Study (both sorted) are computed.
    * An entity that is empty at the end of a call is gone.
    * What matches is what `isocenter.services.archive.index.matching` says.  Criteria below the
      query's level have to be satisfied along one path of entities.
    * Matches come in no order that means anything: those that are found first come first.
    * A page has an order.  Studies: by date and time as they stand, the latest first; where
      objects say different ones, by the latest of what matches; then the study that came last
      first.  Series and instances: by Study Instance UID, then number (a series that has several
      stands at the lowest of what matches), then UID; an instance by that of its series first.
      Patients: by ID and issuer.
    """

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        """Make *records* findable, all in one transaction, durable on return.

        A record whose SOP Instance UID is known is left out (DUPLICATE) or, with
        *replace*, takes the place of the old one (REPLACED); both say what was there.
        With *unless_same* what is there byte for byte, or was there before it was compressed
        (`StoredInstance.received_digest`), is left out in any case.
        With *one_patient* a record whose study came with another patient is left out
        (OTHER_PATIENT).  The SOP Instance UIDs in one call are distinct.  When it raises,
        nothing was added.
        """
        ...

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        """Forget instances, and series, studies and patients that are then empty."""
        ...

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """Those of the instances that are known."""
        ...

    async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
        """The same with all that the index keeps of them."""
        ...

    def find(
        self, query: Query
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Mapping[int, str]]]]:
        """Matches of *query* in blocks, as they come from the database.

        Each match maps the tags that were asked for, and the unique keys down to the query's
        level, to decoded text (several values joined by a backslash); numbers are decimal.
        A block is never empty.  Leaving the context ends the cursor.
        """
        ...

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        """The matches of a page of *query*, in order and as they are at one moment."""
        ...

    def instances(
        self, query: Query | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StoredInstance]]]:
        """The instances below all matches of *query* (None: every instance), in blocks,
        ordered by study, series and instance number (one without a number stands at 0)."""
        ...

    async def statistics(self) -> IndexStatistics: ...

    def rebuilding(self) -> AbstractAsyncContextManager[Index]:
        """An empty index that takes the place of what this one knows of objects, in one step,
        when the context is left without an exception; with one, everything stays as it was.

        Until then this one can be asked, and must not be written.
        """
        ...

    async def probe(self) -> None:
        """Try whether something could be added now: write, durably, and change nothing."""
        ...

    async def sync(self) -> None:
        """What was added and removed until now survives a power failure from now on, also where
        `add` promises less: before bytes go that the index does not name any more."""
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong in the index itself, a line each, without attribute values.

        Reads all of it.
        """
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class AddsAfter(Protocol):
    """An index whose transactions run in a thread, which can do something else first."""

    async def add_after(
        self,
        publish: Callable[[], Sequence[InstanceRecord]],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        """As `Index.add`, of the records that *publish* gives.

        It blocks, and is called before the transaction begins.  So both take one hop to a
        thread; each costs more than most transactions.
        """
        ...


class KeptObjects(Protocol):
    """Objects that are in the store, though the index does not name them."""

    async def kept(self, object_keys: Sequence[str]) -> Mapping[str, StoredInstance]:
        """Those of them, by their keys."""
        ...

    async def awaited(self, sop_instance_uid: str = "") -> bool:
        """Whether the index says of an object that came just now what another form of it will
        say, which is still to come; empty: of any."""
        ...

    async def originals(self, *, after: str, limit: int) -> Sequence[StoredInstance]:
        """What objects were when they came, of those that the index names in another form; by SOP
        Instance UID, behind *after*."""
        ...


class StagedObject(Protocol):
    """An object on its way in: written in pieces, then published or discarded."""

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Append; the buffers are not used after return."""
        ...

    async def spill(self) -> bool:
        """Memory is short: hold nothing of it there any more; False when that cannot be."""
        ...

    async def finish(self, key: str = "") -> None:
        """All is written: do now what would keep other objects of a batch waiting (optional).

        Args:
            key: under which it is to be published; empty: it is not, and may only be tried out
                whether it could be.
        """
        ...

    async def discard(self) -> None:
        """Leave no trace; allowed at any time, more than once, also when cancelled."""
        ...


class ObjectStore(Protocol):
    """Keeps whole objects under keys.  Failures are `StorageError`; a missing key is `KeyError`."""

    @property
    def memory_per_object(self) -> int | None:
        """The most bytes of one staged object that are held in memory; None: all of it."""
        ...

    async def stage(self, size_hint: int | None = None) -> StagedObject:
        """Begin an object that nobody can see yet."""
        ...

    async def publish(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Sequence[StorageError | FileExistsError | None]:
        """Make objects durable under their keys, the whole batch in one round.

        None: visible, and durable: whatever then ends the machine, `recover` gives the object
        back if the index knows it, and undoes it if not.  FileExistsError: the key is taken,
        nothing was changed, and the staged object may be published under another key.
        StorageError: it is discarded.
        """
        ...

    async def settle(self, staged: Sequence[StagedObject]) -> None:
        """The index has decided about published objects, durably: they need no `recover` from
        now on.  Takes its time, many at once; others are published meanwhile.

        Raises:
            StorageError: they do need it; they are not to be settled again.
        """
        ...

    async def sync(self, keys: Sequence[str]) -> None:
        """What is under *keys* survives a power failure from now on, also where `publish` and
        `settle` promise less: before other bytes go in whose place it is.

        Raises:
            StorageError: it may not.
        """
        ...

    async def recover(
        self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[StoredInstance | None]]]
    ) -> int:
        """After a restart: give back what was published and is in the index, and remove what was
        published or staged and is not; how many it removed.

        *look_up* tells for object keys what the index has under them.  Must run before the
        first `stage` and with no other process on the same store.
        """
        ...

    async def salvage(self, other_key: Callable[[str], str]) -> None:
        """In the place of `recover` when there is no index: give back all that was published.

        *other_key* gives another key for an object under whose own there is something else.
        """
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong in what the store needs for `recover`, a line each."""
        ...

    async def open(self, key: str) -> ObjectReader: ...

    async def open_ahead(
        self, keys: Sequence[str], *, reads: bool = True
    ) -> Sequence[ObjectReader | None]:
        """Open objects that are read soon from their beginning, and fetch what is read first.

        None: nothing is gained by that, or it cannot be opened; `open` says why.  Whoever calls it
        closes the readers, and asks for few at once.

        Args:
            reads: into memory; else as far as the system does it by itself.
        """
        ...

    async def missing(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of *keys* under which there is nothing.

        Raises:
            StorageError: nobody can tell.
        """
        ...

    async def stored_at(self, key: str) -> float:
        """When an object was written, in seconds since 1970."""
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; a missing one is no error."""
        ...

    def keys(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[str]]]:
        """All published keys, in blocks."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class BlockingStore(Protocol):
    """An object store that writes in threads, and may do so in one of somebody else's."""

    def publishing(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Callable[[], Sequence[StorageError | FileExistsError | None]] | None:
        """`ObjectStore.publish` as a call that blocks; None: it is better awaited, since much of
        it can be done side by side."""
        ...

    async def prepare_always(self) -> None:
        """Have at hand what the next objects need, so that none waits until it is made; until
        cancelled."""
        ...


@runtime_checkable
class AnnouncingStore(Protocol):
    """An object store that notes keys beside the index, and asks that in the same step."""

    async def announce(self, staged: StagedObject, record: InstanceRecord) -> StoredInstance | None:
        """What the index has under the UID of *record*.

        Unless that is this very object, its key is noted for *staged*, which is then finished under
        it, or discarded.
        """
        ...


@runtime_checkable
class RemoteStore(Protocol):
    """An object store that is somewhere else, and may be away."""

    @property
    def is_away(self) -> bool:
        """It did not answer, and it is not time yet to try again: whoever can wait, waits."""
        ...

    async def look(self) -> None:
        """Ask it something; may be cancelled at any time.

        Raises:
            StorageError: it does not answer; the message says what to do.
        """
        ...
