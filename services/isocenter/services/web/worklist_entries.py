"""Worklist entries as pages and the API find and change them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_key
from isocenter.services.notices import Caller, Notices, OrderAction
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.worklist.entry import (
    Entry,
    EntryKey,
    EntryState,
)
from isocenter.services.service_classes.worklist.order_changes import change_of
from isocenter.services.service_classes.worklist.ports import StoredEntry, Worklist
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys

#: Who brought an entry that came by a page or the API.
SOURCE: Final = "web"
_STEP: Final = "ScheduledProcedureStepSequence[0]."
#: What one looks for → the attribute, as a key.
_KEYS: Final = {
    "name": "PatientName",
    "patient": "PatientID",
    "accession": "AccessionNumber",
    "modality": f"{_STEP}Modality",
    "station": f"{_STEP}ScheduledStationAETitle",
    "days": f"{_STEP}ScheduledProcedureStepStartDate",
    "step": f"{_STEP}ScheduledProcedureStepID",
}


def worklist_keys(said: Mapping[str, str]) -> Keys:
    """What somebody looks for, as the identifier of a C-FIND.

    Args:
        said: by `name` (a part is enough), `patient`, `accession`, `modality`, `station`, `step`,
            and `days`, a DA or a range of them; what is missing or empty is any.

    Raises:
        ValueError: a value cannot be; in words.
    """
    wanted = {name: said.get(name, "") for name in _KEYS}
    wanted["name"] = f"*{wanted['name']}*" if wanted["name"] else ""
    wanted["modality"] = wanted["modality"].upper()
    try:
        keys = [parse_key(f"{_KEYS[name]}={value}") for name, value in wanted.items() if value]
        identifier = build_identifier(keys, None, EXPLICIT_VR_LITTLE_ENDIAN)
        return parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
    except KeySyntaxError as error:
        raise ValueError(str(error)) from error
    except IdentifierError as error:
        raise ValueError(error.comment or str(error)) from error


class WorklistEntries:
    """Finds entries, and changes them for whoever asks, which is told.

    All may raise `StorageError`.
    """

    def __init__(self, worklist: Worklist, notices: Notices) -> None:
        self._worklist = worklist
        self._notices = notices

    async def found(
        self, keys: Keys, states: tuple[EntryState, ...]
    ) -> AsyncGenerator[StoredEntry, None]:
        """The entries that match, the earliest first; to be closed when it is left early."""
        async with self._worklist.find(keys, states) as blocks:
            async for block in blocks:
                for one in block:
                    yield one

    async def some(
        self, keys: Keys, states: tuple[EntryState, ...], most: int
    ) -> list[StoredEntry]:
        """The first of them."""
        found: list[StoredEntry] = []
        async with aclosing(self.found(keys, states)) as entries:
            async for one in entries:
                found.append(one)
                if len(found) == most:
                    break
        return found

    async def get(self, key: EntryKey) -> StoredEntry | None:
        """The entry of that key."""
        return await self._worklist.get(key)

    async def numbered(self, number: int) -> StoredEntry | None:
        """The entry of that number."""
        return await self._worklist.numbered(number)

    async def add(self, entry: Entry, state: EntryState, caller: Caller) -> bool:
        """Add an entry; False: there is one of its key."""
        if await self._worklist.get(entry.key) is not None:
            return False
        await self._worklist.put([entry], source=SOURCE, states={entry.key: state})
        self._tell(entry, OrderAction.ADDED, caller)
        return True

    async def change(
        self,
        key: EntryKey,
        change: Callable[[Entry], Entry],
        state: EntryState | None,
        caller: Caller,
    ) -> bool:
        """Change an entry; False: there is none.  What *change* raises comes out.

        Raises:
            InvalidEntryError: there is another entry with the new key.
        """
        changed: list[Entry] = []

        def noted(entry: Entry) -> Entry:
            changed[:] = [change(entry)]
            return changed[0]

        if not await self._worklist.change(key, noted, state):
            return False
        self._tell(changed[0], OrderAction.CHANGED, caller)
        return True

    async def set_state(self, key: EntryKey, state: EntryState, caller: Caller) -> bool:
        """Give an entry another state; False: there is none."""
        return await self.change(key, lambda entry: entry, state, caller)

    async def remove(self, key: EntryKey, caller: Caller) -> bool:
        """Take an entry off the list; False: there is none."""
        stored = await self._worklist.get(key)
        if stored is None or not await self._worklist.remove([key]):
            return False
        self._tell(stored.entry, OrderAction.REMOVED, caller)
        return True

    def _tell(self, entry: Entry, action: OrderAction, caller: Caller) -> None:
        self._notices.publish(change_of(entry, action, caller))
