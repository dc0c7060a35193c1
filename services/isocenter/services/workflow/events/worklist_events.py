"""Event of a change of the worklist."""

from __future__ import annotations

from typing import Final

from isocenter.services.service_classes.worklist.entry import STUDY_INSTANCE_UID
from isocenter.services.service_classes.worklist.ports import StoredEntry
from isocenter.services.workflow.events.event import WorklistChanged

#: What an event says of an entry that is no longer on the list.
REMOVED: Final = "REMOVED"


def event_of_entry(before: StoredEntry | None, after: StoredEntry | None) -> WorklistChanged:
    """What happened when an entry came (*before* is None), changed, or went (*after* is None)."""
    stored = after or before
    assert stored is not None
    key = stored.entry.key
    return WorklistChanged(
        study_instance_uid=stored.entry.text(STUDY_INSTANCE_UID),
        entry_number=stored.number,
        scheduled_step_id=key.step_id,
        accession_number=key.accession_number,
        state=stored.state.value if after is not None else REMOVED,
    )
