"""Workitem manager: what happens between two of its transactions."""

from __future__ import annotations

import pytest

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.events import WorkitemEvent
from isocenter.services.service_classes.ups.manager import WorkitemManager
from isocenter.services.service_classes.ups.workitem import (
    STATE,
    TRANSACTION_UID,
    UpsError,
    UpsStatus,
    element,
)
from isocenter.storage.stores import StoresOptions, join_stores
from services.service_classes.ups.samples import LOCK, UID, attributes, scheduled
from storage.databases import DATABASES


async def test_a_workitem_that_is_removed_while_its_end_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with DATABASES["sqlite"](None) as database:
        workitems = join_stores(database, StoresOptions()).workitems
        manager = WorkitemManager(workitems)
        await manager.create(UID, attributes(scheduled()), limits=DEFAULT_LIMITS)
        begun = [element(STATE, "CS", "IN PROGRESS"), element(TRANSACTION_UID, "UI", LOCK)]
        await manager.change_state(UID, AttributeList({one.tag: one for one in begun}))
        tell = workitems.tell

        async def tell_too_late(event: WorkitemEvent) -> int:
            await database.write(lambda connection: connection.execute("DELETE FROM workitem"))
            return await tell(event)

        monkeypatch.setattr(workitems, "tell", tell_too_late)
        with pytest.raises(UpsError) as refused:
            await manager.request_cancel(UID, AttributeList({}), requester="RIS")
    assert refused.value.status == UpsStatus.NO_SUCH_WORKITEM
