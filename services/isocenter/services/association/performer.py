"""Operations that the peer asks for: answered at once, or performed by a task each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import trio

from isocenter.engine import commands
from isocenter.engine.dimse.message_codec import Request, Response
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.events import MessageReceived
from isocenter.services.association.operation import Operation
from isocenter.services.association.sender import Sending

if TYPE_CHECKING:
    from isocenter.services.association.driver import AssociationTask

log = logging.getLogger("isocenter.association")


class Performing(Sending):
    """The side of an association that does what the peer asks."""

    async def _request_received(self, event: MessageReceived, request: Request) -> None:
        context_id, has_data_set = event.context_id, event.has_data_set
        context = self.negotiated.contexts[context_id]
        if (
            self._answer_at_once is not None
            and not self._is_leaving
            and not has_data_set
            and (self.grant is None or not self.grant.refusal(context.abstract_syntax, request))
        ):
            response = self._answer_at_once(context, request)
            if response is not None:
                await self._respond_at_once(context_id, request, response)
                return
        window = self.negotiated.operations_performed
        while window and len(self._performing) >= window:
            # The peer overruns its window: it waits, and what it sends waits in the socket.
            await self._operation_ended.wait()
        operation = Operation(cast("AssociationTask", self), context, request, has_data_set)
        if has_data_set:
            self._incoming.begin(event, operation._put)
            self._filling = operation
        if self._lost or self._is_leaving:
            operation._abandon()
            return
        self._performing.add(operation)
        assert self._nursery is not None
        self._nursery.start_soon(self._perform, operation)

    async def wait_until_idle(self) -> None:
        """Until nothing is performed that the peer has asked for, or the association has ended."""
        while self._performing and not self.ended.is_set():
            await self._operation_ended.wait()

    async def leave(self, reason: AssociationError) -> None:
        """Perform nothing more, and abort when what is being performed has ended."""
        self._is_leaving = True
        await self.wait_until_idle()
        if not self.ended.is_set():
            await self.abort(reason)

    async def _respond_at_once(self, context_id: int, request: Request, response: Response) -> None:
        began = trio.current_time()
        try:
            await self.send(commands.SendMessage(context_id, response))
        except (AssociationError, LocalProtocolError):
            return  # what came behind the request has ended the association
        self._tell(request, response.status, began)

    async def _perform(self, operation: Operation) -> None:
        try:
            with operation.scope:
                await self._provider(operation)
        except AssociationError as error:
            log.debug(
                "%s: operation ended with its association: %s", self.transport.peer_address, error
            )
        except LocalProtocolError as error:
            if self._end_reason is None:
                self.complaints.add(log, logging.WARNING, "operation given up: %s", error)
        finally:
            operation._abandon()
            self._performing.remove(operation)
            self._tell(operation.request, operation.status, operation.began)
            if operation.account is not None:
                self.notices.tell(operation.account())
            self._operation_ended.send()
            self.restart_idle()
