"""Performer of an association: what the peer asks for, in a task each."""

from __future__ import annotations

import logging
from collections.abc import Callable

from isocenter.engine import commands
from isocenter.engine.dimse.message_codec import Request, Response
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.events import MessageReceived
from isocenter.engine.incoming import Incoming
from isocenter.engine.negotiation import PresentationContext, Role
from isocenter.services.association.invoker import Invoker
from isocenter.services.association.operation import Operation, Provider
from isocenter.services.association.state import AssociationOptions
from isocenter.services.concurrency import Broadcast
from isocenter.services.net.transport import Transport

log = logging.getLogger("isocenter.association")


#: The response to what waits for nothing; None: it is for the `Provider`.
ImmediateResponse = Callable[[PresentationContext, Request], Response | None]


class Performer(Invoker):
    """The side of an association that does what the peer asks.

    It asks as well: sub-operations of a C-GET go out on the association that they came by.
    """

    def __init__(
        self,
        transport: Transport,
        role: Role,
        options: AssociationOptions,
        provider: Provider,
        respond_immediately: ImmediateResponse | None,
    ) -> None:
        super().__init__(transport, role, options)
        self._provider = provider
        self._immediate_response = respond_immediately
        self._performing: set[Operation] = set()
        self._operation_ended = Broadcast()
        self._incoming = Incoming(options.limits.identifier)
        #: The operation that the data set on its way belongs to.
        self._filling: Operation | None = None
        #: Nothing more is performed.
        self._is_leaving = False

    @property
    def operations(self) -> int:
        """How many operations of the peer are being performed now."""
        return len(self._performing)

    def requests(self) -> list[Request]:
        """What the peer has asked for that is being performed now."""
        return [operation.request for operation in self._performing]

    @property
    def is_idle(self) -> bool:
        """Established, with nothing being performed or awaited."""
        return self.is_established and not self._is_busy()

    def _is_busy(self) -> bool:
        return bool(self._performing or self._invocations)

    def _cancel_operations(self) -> None:
        for operation in self._performing:
            operation.scope.cancel()

    async def _request_received(self, event: MessageReceived, request: Request) -> None:
        context_id, has_data_set = event.context_id, event.has_data_set
        context = self.negotiated.contexts[context_id]
        if (
            self._immediate_response is not None
            and not self._is_leaving
            and not has_data_set
            and (
                self.grant is None
                or not (self.grant.project or self.grant.refusal(context.abstract_syntax, request))
            )
        ):
            response = self._immediate_response(context, request)
            if response is not None:
                await self._respond_immediately(context_id, request, response)
                return
        window = self.negotiated.operations_performed
        while window and len(self._performing) >= window:
            # The peer overruns its window: it waits, and what it sends waits in the socket.
            await self._operation_ended.wait()
        operation = Operation(self, context, request, has_data_set)
        if has_data_set:
            self._incoming.begin(event, operation.put)
            self._filling = operation
        if self._transport_broken or self._is_leaving:
            operation.abandon()
            return
        self._performing.add(operation)
        self._start(self._perform, operation)

    async def wait_until_idle(self) -> None:
        """Wait until nothing is performed for the peer, or the association has ended."""
        while self._performing and not self.ended.is_set():
            await self._operation_ended.wait()

    async def leave(self, reason: AssociationError) -> None:
        """Perform nothing more, and abort when what is being performed has ended."""
        self._is_leaving = True
        await self.wait_until_idle()
        if not self.ended.is_set():
            await self.abort(reason)

    async def _respond_immediately(
        self, context_id: int, request: Request, response: Response
    ) -> None:
        began = self.now()
        try:
            await self.send(commands.SendMessage(context_id, response))
        except (AssociationError, LocalProtocolError):
            return  # what came behind the request has ended the association
        self._publish_operation_ended(request, response.status, began)

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
                self.peer_log.write(log, logging.WARNING, "operation given up: %s", error)
        finally:
            operation.abandon()
            self._performing.remove(operation)
            self._publish_operation_ended(operation.request, operation.status, operation.began)
            if operation.completion_notice is not None:
                self.notices.publish(operation.completion_notice())
            self._operation_ended.send()
            self.restart_idle()
