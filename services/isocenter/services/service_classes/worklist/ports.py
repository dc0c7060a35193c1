"""Port of the worklist: where entries are kept and found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from isocenter.engine.dataset import Element
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.worklist.entry import Entry, EntryKey, EntryState
from isocenter.services.service_classes.worklist.query_keys import (
    SCHEDULED_STEPS,
    STEP_STATUS,
    Keys,
)

#: Begins the source of what the watched folder has; the name of the file follows.
FOLDER_SOURCE: Final = "folder:"


class EntryConflictError(IsocenterError):
    """An entry has another state than it was found in: look again."""

    error_code = ErrorCode.WORKLIST_CONFLICT


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as the worklist has it.

    Attributes:
        number: it is called by on the command line.
        source: who brought it: ``command``, ``hl7``, `FOLDER_SOURCE` and the name of a file; empty:
            that has it no more.
        created_at, changed_at: seconds since 1970.
    """

    number: int
    state: EntryState
    source: str
    created_at: float
    changed_at: float
    entry: Entry


def with_state(stored: StoredEntry) -> AttributeList:
    """The attributes of an entry with Scheduled Procedure Step Status (0040,0020)."""
    entry = stored.entry
    status = Element(STEP_STATUS, "CS", stored.state.value.encode("ascii"))
    step = dict(sorted({**entry.step, STEP_STATUS: status}.items()))
    return AttributeList(
        {**entry.attributes.elements, SCHEDULED_STEPS: Element(SCHEDULED_STEPS, "SQ", (step,))}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """What `Worklist.put` did, in numbers of entries."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0


class Worklist(Protocol):
    """Keeps entries, durably.  Failures are `StorageError`."""

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
        """Add entries, or put them in the place of those of the same key; all or none.

        The state of an entry that is there already stays, unless *states* has another.

        Args:
            states: also of entries that are on the list and not among *entries*.
            cancel: keys of entries that leave the list first; one that is among *entries*
                comes back as a new one.
            found: in which states the caller found entries, from which the rest follows.
            whole: they are all that *source* has: what it brought before and is not among
                them is removed, unless it was started.

        Raises:
            EntryConflictError: an entry is not in the state of *found*; nothing was done.
        """
        ...

    async def sources(self) -> Sequence[str]:
        """Who brought the entries that there are; each once."""
        ...

    async def remove(self, keys: Sequence[EntryKey]) -> int:
        """Take entries off the list, whatever their state; how many there were."""
        ...

    async def set_state(self, key: EntryKey, state: EntryState) -> bool:
        """Give an entry another state; False: there is no such entry."""
        ...

    async def change(
        self, key: EntryKey, change: Callable[[Entry], Entry], state: EntryState | None = None
    ) -> bool:
        """Put what *change* makes of an entry in its place, also when its key is another then.

        False: there is no such entry.  What *change* raises comes out, and nothing was changed.

        Raises:
            InvalidEntryError: there is another entry with the new key.
        """
        ...

    async def remove_ended(self, before: float) -> int:
        """Take completed and discontinued entries off that have not changed since *before*.

        Some at a time: others write, too.  How many; 0: there are no more.
        """
        ...

    async def get(self, key: EntryKey) -> StoredEntry | None: ...

    async def numbered(self, number: int) -> StoredEntry | None:
        """The entry of that number."""
        ...

    async def find_by_accession_number(self, accession_number: str) -> Sequence[StoredEntry]:
        """The entries of an order, by step ID."""
        ...

    def find(
        self, keys: Keys, states: Sequence[EntryState]
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[StoredEntry]]]:
        """The entries in one of *states* that match, in blocks, the earliest first.

        A block is never empty.
        """
        ...
