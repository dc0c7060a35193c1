"""Sending what is due for one destination: batches, associations, and what answers mean."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import ServiceClass, StatusClass, classify, describe_status
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.orders import ForwardPriority
from isocenter.services.archive.read_ahead import ReadAhead, reading_ahead
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context, InvokingAssociation
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.transcoder import cure_for
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer, send_object
from isocenter.services.service_classes.storage.sent_account import SentAccount
from isocenter.services.workflow.forwarding.visit import ForwardingContext, SendTask, Visit

log = logging.getLogger("isocenter.forward")

#: Statuses A7xxH of C-STORE (PS3.4 Table B.2-1): the destination cannot, whatever it is sent.
_OUT_OF_RESOURCES: Final = 0xA700
_STATUS_KIND: Final = 0xFF00
#: Associations in a row on which a destination answers nothing: it is tried again later anyway.
_PATIENCE: Final = 3

#: Priority (0000,0700) of a C-STORE-RQ (PS3.7 9.1.1.1).
_DIMSE_PRIORITY: Final[Mapping[ForwardPriority, int]] = {
    ForwardPriority.LOW: 2,
    ForwardPriority.NORMAL: 0,
    ForwardPriority.HIGH: 1,
    ForwardPriority.URGENT: 1,
}


class DimseSender:
    """Sends to a destination that speaks DIMSE."""

    def __init__(self, parts: ForwardingContext, destination: str, peer: Peer) -> None:
        self._parts = parts
        self._destination = destination
        self._peer = peer

    async def send(self, tasks: Sequence[SendTask], visit: Visit) -> None:
        """Over as many associations as the contexts need."""
        for first in dict.fromkeys(record.form.transfer_syntax_uid for record, _ in tasks):
            some = [task for task in tasks if task[0].form.transfer_syntax_uid == first]
            await self._send_some(some, first, visit)

    async def _send_some(self, tasks: Sequence[SendTask], first: str, visit: Visit) -> None:
        """Those that are sent in the transfer syntax *first*, where it is taken."""
        transcoder = self._parts.transcoder
        plans = plan_associations(
            tasks,
            lambda task: (
                task[1].sop_class_uid,
                self._parts.archive.leaving_syntax(
                    task[1], self._peer.ae_title, task[0].form.project
                ),
            ),
            no_targets if transcoder is None else transcoder.targets,
            first=first,
        )
        for contexts, group in plans:
            instances = [stored for _, stored in group]
            async with reading_ahead(self._parts.archive, instances) as ahead:
                await self._send_group(contexts, group, ahead, visit)

    async def _send_group(
        self,
        contexts: Sequence[Context],
        group: Sequence[SendTask],
        ahead: ReadAhead,
        visit: Visit,
    ) -> None:
        """What one association can carry."""
        account = SentAccount(
            self._destination,
            f"{self._peer.host}:{self._peer.port}",
            [stored for _, stored in group],
        )

        def take_down(task: SendTask, fault: str) -> None:
            record, stored = task
            if fault:
                visit.missed(record, fault)
            else:
                visit.account.arrived(record, stored.size)
            account.count(stored, fault)

        async def send(association: InvokingAssociation, task: SendTask) -> None:
            take_down(task, await self._deliver(association, task, ahead, visit))

        def lose(task: SendTask, error: IsocenterError) -> None:
            # Maybe it was this very object that the peer could not bear.
            take_down(task, str(error))

        @asynccontextmanager
        async def associate() -> AsyncIterator[InvokingAssociation]:
            async with self._parts.connect(
                self._peer, contexts, operations_window=OPERATIONS_WINDOW
            ) as association:
                account.begin(self._parts.notices)
                yield association

        transfer = Transfer(
            group,
            send=send,
            lose=lose,
            is_over=lambda: bool(visit.account.fault),
            after=visit.account.settle_now_and_then,
            patience=_PATIENCE,
        )
        try:
            await transfer.send_over_associations(associate)
        finally:
            account.end(self._parts.notices)
        if transfer.fault is not None:
            visit.account.fault = str(transfer.fault)

    async def _deliver(
        self,
        association: InvokingAssociation,
        task: SendTask,
        ahead: ReadAhead,
        visit: Visit,
    ) -> str:
        """Send one object; what was against it.

        Raises:
            AssociationError: the association ended first.
        """
        record, stored = task
        archive = self._parts.archive
        send = partial(
            send_object,
            association,
            priority=_DIMSE_PRIORITY[record.priority],
            transcoder=self._parts.transcoder,
            first=record.form.transfer_syntax_uid,
        )
        try:
            try:
                item = stored_object(stored, ahead.open)
                item = await archive.leaving(item, self._peer.ae_title, record.form)
                response = await send(item)
            except KeyError:
                now = await archive.compressed_since(stored)
                if now is None:
                    raise
                item = stored_object(now, ahead.open)
                item = await archive.leaving(item, self._peer.ae_title, record.form)
                response = await send(item)
        except KeyError:
            # Removed, or another object has its place: the next attempt looks again.
            return "it was removed or replaced meanwhile"
        except (StorageError, DataSetError, OSError) as error:
            return f"it cannot be read: {error}"
        except PixelError as error:
            return f"it cannot be transcoded: {error}"
        except (IsocenterError, ExceptionGroup):
            raise
        except Exception as error:
            # A fault of ours with one object blocks no other; its text may name a patient.
            return f"internal error ({type(error).__name__})"
        if response is None:
            return (
                "the peer accepted no presentation context for "
                f"{name_of(stored.sop_class_uid)} in {name_of(stored.transfer_syntax_uid)}"
                f"{cure_for(stored.transfer_syntax_uid)}"
            )
        status = response.status
        kind = classify(status)
        if kind is StatusClass.SUCCESS or (
            kind is StatusClass.WARNING and self._parts.options.accept_warnings
        ):
            return ""
        fault = f"the peer answered {status:04X}H {describe_status(status, ServiceClass.STORAGE)}"
        if status & _STATUS_KIND == _OUT_OF_RESOURCES:
            visit.account.fault = fault
        return fault
