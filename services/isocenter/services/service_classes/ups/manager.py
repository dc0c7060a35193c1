"""Workitem manager: what is asked of workitems, whoever asks, and however.

A change is durable when a method returns, and so are the events that subscribers are to get.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import time
from typing import Final

import trio

from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.concurrency import Broadcast
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import StorageError
from isocenter.services.notices import Caller, Notices, WorkitemChanged
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.ups.events import EventType, WorkitemEvent, restarted
from isocenter.services.service_classes.ups.ports import Channel, Subscriber, Workitems
from isocenter.services.service_classes.ups.query import WorkitemKeys, parse_workitem_keys
from isocenter.services.service_classes.ups.rules import (
    cancel_information,
    cancelled_before_begun,
    workitem_after_action,
    workitem_after_set,
    workitem_of_create,
)
from isocenter.services.service_classes.ups.workitem import (
    DELETION_LOCK,
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    PATIENT_ID,
    PATIENT_NAME,
    RECEIVING_AE,
    STATE,
    STUDY_INSTANCE_UID,
    TRANSACTION_UID,
    UpsError,
    UpsStatus,
    Workitem,
    WorkitemState,
    without,
)

log = logging.getLogger("isocenter.operation")

_LOCK_VALUES: Final = {"TRUE": True, "FALSE": False}


class WorkitemManager:
    """Does what is asked by the rules of PS3.4 CC.2; each returns a status, success or a warning.

    Args:
        knows: whether an AE title can be reached by N-EVENT-REPORT.
        strict: refuse workitems also for type 2 attributes that are missing.
        grants_locks: subscribers may keep workitems from being deleted.
        on_event: called when events may be due.
        notices: are told of each change, with who asked for it.
        now: seconds since 1970.

    Attributes:
        changed: tells those who wait that events may be due.
    """

    def __init__(
        self,
        workitems: Workitems,
        *,
        knows: Callable[[str], bool] = lambda _: True,
        strict: bool = False,
        grants_locks: bool = True,
        on_event: Callable[[], None] = lambda: None,
        notices: Notices | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        self.workitems = workitems
        self.changed = Broadcast()
        self._knows = knows
        self._strict = strict
        self._grants_locks = grants_locks
        self._on_event = on_event
        self._notices = notices
        self._now = now

    async def create(
        self,
        sop_instance_uid: str,
        attributes: AttributeList,
        *,
        limits: Limits,
        caller: Caller | None = None,
    ) -> int:
        """Keep a new workitem (CC.2.5).

        Args:
            caller: who asks for it; None: nobody is told so.

        Raises:
            UpsError: as of `workitem_of_create`; 0111H: there is one with its UID.
        """
        if sop_instance_uid in (GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION):
            raise UpsError(Status.INVALID_SOP_INSTANCE, "that is the global subscription")
        workitem, status = workitem_of_create(
            sop_instance_uid, attributes, now=self._now(), strict=self._strict, limits=limits
        )
        if not await self.workitems.create(workitem):
            raise UpsError(Status.DUPLICATE_SOP_INSTANCE, "there is a UPS with this UID")
        self._told(workitem, "created", caller)
        return status

    async def change(
        self,
        sop_instance_uid: str,
        changes: AttributeList,
        *,
        limits: Limits,
        caller: Caller | None = None,
    ) -> int:
        """Give a workitem other attributes (CC.2.6); *caller* as of `create`.

        Raises:
            UpsError: as of `workitem_after_set`; C307H: there is no such workitem.
        """
        now = self._now()

        def change(workitem: Workitem) -> Sequence[Workitem]:
            return [workitem_after_set(workitem, changes, now=now, limits=limits)]

        self._told(await self._changed(sop_instance_uid, change), "changed", caller)
        return Status.SUCCESS

    async def change_state(
        self, sop_instance_uid: str, information: AttributeList, *, caller: Caller | None = None
    ) -> int:
        """Change the state of a workitem (CC.2.1); *caller* as of `create`.

        Raises:
            UpsError: as of `workitem_after_action`; C307H: there is no such workitem; 0120H: no
                state is named.
        """
        if STATE not in information.elements:
            raise UpsError(Status.MISSING_ATTRIBUTE, "no state is named", [STATE])
        wanted, transaction = information.text(STATE), information.text(TRANSACTION_UID)
        status: int = Status.SUCCESS
        now = self._now()

        def change(workitem: Workitem) -> Sequence[Workitem]:
            nonlocal status
            after, status = workitem_after_action(workitem, wanted, transaction, now=now)
            return [] if after is workitem else [after]

        self._told(await self._changed(sop_instance_uid, change), "state changed", caller)
        return status

    async def request_cancel(
        self,
        sop_instance_uid: str,
        information: AttributeList,
        *,
        requester: str,
        caller: Caller | None = None,
    ) -> int:
        """Ask for a workitem to be cancelled (CC.2.2); *caller* as of `create`.

        One that nobody performs is; of one that somebody does, its subscribers are told, of whom
        its performer should be one.

        Raises:
            UpsError: C307H: there is no such workitem; C311H: it is completed; C312H: nobody is
                there to be told.
        """
        status: int = Status.SUCCESS
        is_performed = False
        now = self._now()

        def change(workitem: Workitem) -> Sequence[Workitem]:
            nonlocal status, is_performed
            status, is_performed = Status.SUCCESS, False
            match workitem.state:
                case WorkitemState.COMPLETED:
                    raise UpsError(UpsStatus.IS_COMPLETED, "it is COMPLETED already")
                case WorkitemState.CANCELED:
                    status = UpsStatus.ALREADY_CANCELED
                    return []
                case WorkitemState.IN_PROGRESS:
                    is_performed = True
                    return []
                case WorkitemState.SCHEDULED:
                    return cancelled_before_begun(workitem, information, now=now)

        workitem = await self._changed(sop_instance_uid, change)
        if is_performed:
            event = WorkitemEvent(
                EventType.CANCEL_REQUESTED,
                sop_instance_uid,
                cancel_information(information, requester),
            )
            try:
                told = await self.workitems.tell(event)
            except KeyError:
                raise _unknown() from None
            if not told:
                raise UpsError(
                    UpsStatus.PERFORMER_NOT_REACHED, "its performer has not subscribed to it"
                )
        self._told(workitem, "cancellation requested", caller)
        return status

    async def get(self, sop_instance_uid: str) -> Workitem | None:
        """A workitem; None: there is none."""
        return await self.workitems.get(sop_instance_uid)

    def find(
        self, keys: WorkitemKeys
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Workitem]]]:
        """As `Workitems.find`."""
        return self.workitems.find(keys)

    # -- Subscriptions -------------------------------------------------------------------

    async def subscribe_by_action(
        self, sop_instance_uid: str, information: AttributeList, *, as_ae_title: str
    ) -> int:
        """Subscribe whom the Action Information names, to be told by N-EVENT-REPORT (CC.2.3).

        Raises:
            UpsError: as of `subscribe`; 0120H, 0115H: it names nobody, or no lock that can be.
        """
        ae_title = _receiver(information)
        text = information.text(DELETION_LOCK) or "FALSE"
        if text not in _LOCK_VALUES:
            raise UpsError(
                Status.INVALID_ARGUMENT_VALUE, "the lock is TRUE or FALSE", [DELETION_LOCK]
            )
        subscriber = Subscriber(
            ae_title=ae_title,
            channel=Channel.DIMSE,
            as_ae_title=as_ae_title,
            has_lock=_LOCK_VALUES[text],
        )
        keys = without(information, RECEIVING_AE, DELETION_LOCK)
        return await self.subscribe(sop_instance_uid, subscriber, keys)

    async def subscribe(
        self, sop_instance_uid: str, subscriber: Subscriber, keys: AttributeList
    ) -> int:
        """Subscribe somebody to a workitem, or to all of them.

        Args:
            keys: of the filtered global subscription.

        Raises:
            UpsError: C307H: there is no such workitem; C308H: nobody knows where the subscriber
                listens; C314H: a filter without keys; 0115H: one that cannot be; 0124H: its AE
                title is another one's of the web; 0213H: there are as many as there may be.
        """
        if subscriber.channel is Channel.DIMSE and not self._knows(subscriber.ae_title):
            raise UpsError(
                UpsStatus.RECEIVER_UNKNOWN, "nobody knows where the receiving AE listens"
            )
        status: int = Status.SUCCESS
        if subscriber.has_lock and not self._grants_locks:
            status = UpsStatus.DELETION_LOCK_NOT_GRANTED
            subscriber = Subscriber(
                ae_title=subscriber.ae_title,
                channel=subscriber.channel,
                as_ae_title=subscriber.as_ae_title,
                owner=subscriber.owner,
            )
        if sop_instance_uid == GLOBAL_SUBSCRIPTION:
            await self.workitems.subscribe_globally(subscriber, None)
        elif sop_instance_uid == FILTERED_SUBSCRIPTION:
            identifier = keys.encode(EXPLICIT_VR_LITTLE_ENDIAN)
            if not keys.elements:
                raise UpsError(UpsStatus.ACTION_NOT_APPROPRIATE, "a filter needs matching keys")
            try:
                parse_workitem_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN)
            except IdentifierError as error:
                raise UpsError(Status.INVALID_ARGUMENT_VALUE, error.comment) from error
            await self.workitems.subscribe_globally(subscriber, identifier)
        else:
            try:
                await self.workitems.subscribe(sop_instance_uid, subscriber)
            except KeyError:
                raise _unknown() from None
        log.info("%s subscribes to %s", subscriber.channel.value, sop_instance_uid)
        self.wake()
        return status

    async def unsubscribe(
        self, sop_instance_uid: str, ae_title: str, channel: Channel, owner: str | None = None
    ) -> int:
        """Tell somebody of a workitem no more, or of nothing at all.

        Args:
            owner: who asks for it over the web; None: somebody who may for anybody.

        Raises:
            UpsError: C307H: there is no such workitem; C308H: nobody knows the subscriber; 0124H:
                the AE title is another one's of the web.
        """
        self._check_receiver(ae_title, channel)
        if sop_instance_uid in (GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION):
            await self.workitems.unsubscribe_globally(ae_title, channel, owner)
        else:
            try:
                await self.workitems.unsubscribe(sop_instance_uid, ae_title, channel, owner)
            except KeyError:
                raise _unknown() from None
        return Status.SUCCESS

    async def suspend(
        self, sop_instance_uid: str, ae_title: str, channel: Channel, owner: str | None = None
    ) -> int:
        """Tell somebody of no workitems that are yet to come; *owner* as of `unsubscribe`.

        Raises:
            UpsError: C314H: it is not a global subscription; C308H: nobody knows the subscriber;
                0124H: the AE title is another one's of the web.
        """
        if sop_instance_uid not in (GLOBAL_SUBSCRIPTION, FILTERED_SUBSCRIPTION):
            raise UpsError(
                UpsStatus.ACTION_NOT_APPROPRIATE, "a subscription to one UPS is not suspended"
            )
        self._check_receiver(ae_title, channel)
        await self.workitems.suspend(ae_title, channel, owner)
        return Status.SUCCESS

    async def announce(self) -> None:
        """Tell all subscribers that this server has started again with all it had, once; then wait,
        so that no other process tells it as well."""
        try:
            if await self.workitems.tell_all(restarted):
                self.wake()
        except StorageError as error:
            log.warning("subscribers to workitems cannot be told of the start: %s", error)
        await trio.sleep_forever()

    def wake(self) -> None:
        """Events may be due."""
        self._on_event()
        self.changed.send()

    def _check_receiver(self, ae_title: str, channel: Channel) -> None:
        if channel is Channel.DIMSE and not self._knows(ae_title):
            raise UpsError(
                UpsStatus.RECEIVER_UNKNOWN, "nobody knows where the receiving AE listens"
            )

    async def _changed(
        self, sop_instance_uid: str, change: Callable[[Workitem], Sequence[Workitem]]
    ) -> Workitem:
        try:
            return await self.workitems.change(sop_instance_uid, change)
        except KeyError:
            raise _unknown() from None

    def _told(self, workitem: Workitem, what: str, caller: Caller | None) -> None:
        log.info("workitem %s: %s", workitem.sop_instance_uid, workitem.state.value)
        if self._notices is not None and caller is not None:
            text = workitem.attributes.text
            self._notices.publish(
                WorkitemChanged(
                    caller=caller,
                    sop_instance_uid=workitem.sop_instance_uid,
                    what=what,
                    state=workitem.state.value,
                    study_instance_uid=text(STUDY_INSTANCE_UID),
                    is_new=what == "created",
                    patient_id=text(PATIENT_ID),
                    patient_name=text(PATIENT_NAME),
                )
            )
        self.wake()


def _receiver(information: AttributeList) -> str:
    ae_title = information.text(RECEIVING_AE).strip()
    if not ae_title:
        raise UpsError(Status.MISSING_ATTRIBUTE, "no receiving AE is named", [RECEIVING_AE])
    return ae_title


def receiver_of(information: AttributeList) -> str:
    """Whom an unsubscription or a suspension names.

    Raises:
        UpsError: 0120H: nobody.
    """
    return _receiver(information)


def _unknown() -> UpsError:
    return UpsError(UpsStatus.NO_SUCH_WORKITEM, "there is no such UPS")
