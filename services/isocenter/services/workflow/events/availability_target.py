"""Event target that sends instance availability notifications (PS3.4 Annex R)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

import orjson
import trio

from isocenter.engine.dimse.status import describe_status
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import Index
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.errors import NoPresentationContextError, OperationError, StorageError
from isocenter.services.service_classes.availability.scu import (
    CONTEXTS,
    Availability,
    Instance,
    notifications_of,
    notify,
)
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.workflow.events.event import Kind, StoredEvent
from isocenter.services.workflow.events.targets import DeliveryError

log = logging.getLogger("isocenter.events")

#: A failure of ours; what the peer answers is told with its meaning.
_FAULTS: Final = (AssociationError, LocalProtocolError, NoPresentationContextError, StorageError)

#: Instances in one question to the index.
_AT_ONCE: Final = 500

Connect = Callable[[Peer, Sequence[Context]], AbstractAsyncContextManager[ClientAssociation]]


class AvailabilityNotifier:
    """Sends instance availability notifications; `targets.TellAvailability`.

    Args:
        steps_of: SOP Instance UIDs of the performed procedure steps of a study.
        peers: by AE title.
        retrieve_ae_title: where instances can be had from.
    """

    def __init__(
        self,
        index: Index,
        *,
        steps_of: Callable[[str], Awaitable[Sequence[str]]],
        peers: Mapping[str, Peer],
        connect: Connect,
        retrieve_ae_title: str,
    ) -> None:
        self._index = index
        self._steps_of = steps_of
        self._peers = peers
        self._connect = connect
        self._retrieve_ae_title = retrieve_ae_title

    async def __call__(self, ae_title: str, event: StoredEvent) -> None:
        """Tell of the instances that the archive has of the event's study, or has no more.

        Raises:
            DeliveryError: the peer is not known, cannot be reached, or refused.
        """
        peer = self._peers.get(ae_title)
        if peer is None:
            raise DeliveryError(f"{ae_title} is none of the peers")
        is_deleted = event.kind == Kind.INSTANCES_DELETED.value
        availability = Availability.UNAVAILABLE if is_deleted else Availability.ONLINE
        study = event.study_instance_uid
        try:
            instances = await self._gone(event) if is_deleted else await self._instances(study)
            if not instances:
                return
            steps = [] if is_deleted else await self._steps_of(study)
            # Thousands of references take a while to write.
            told = await trio.to_thread.run_sync(
                lambda: list(
                    notifications_of(
                        instances,
                        retrieve_ae_title=self._retrieve_ae_title,
                        performed_steps=steps,
                        availability=availability,
                    )
                )
            )
            async with self._connect(peer, CONTEXTS) as association:
                for attributes in told:
                    await notify(association, attributes)
        except OperationError as error:
            # Without the words of the peer: they could name a patient.
            meaning = describe_status(error.status)
            raise DeliveryError(f"{ae_title} answered {error.status:04X}H {meaning}") from None
        except _FAULTS as error:
            raise DeliveryError(str(error)) from error
        log.info("%s was told of %d instances: %s", ae_title, len(instances), availability.value)

    async def _gone(self, event: StoredEvent) -> list[Instance]:
        """What was deleted and has not come back."""
        gone = _deleted_in(event)
        back: set[str] = set()
        for start in range(0, len(gone), _AT_ONCE):
            uids = [each.sop_instance_uid for each in gone[start : start + _AT_ONCE]]
            back |= (await self._index.get(uids)).keys()
        return [each for each in gone if each.sop_instance_uid not in back]

    async def _instances(self, study_instance_uid: str) -> list[Instance]:
        query = Query(
            level=Level.STUDY,
            criteria=(Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study_instance_uid)),),
        )
        found: list[Instance] = []
        async with self._index.instances(query) as blocks:
            async for block in blocks:
                found += block
        return found


class _Gone(NamedTuple):
    """An instance that was deleted."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def _deleted_in(event: StoredEvent) -> list[_Gone]:
    fields = orjson.loads(event.body)
    # An event of an earlier release, or from before a peer was to be told, names none.
    return [
        _Gone(event.study_instance_uid, series["series_instance_uid"], sop_class, uid)
        for series in fields.get("series", ())
        for sop_class, uids in series["sop_instance_uids"].items()
        for uid in uids
    ]
