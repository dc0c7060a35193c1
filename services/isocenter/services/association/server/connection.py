"""Handler of one connection from accept to close: protocol, TLS handshake, association."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import AssociateAccept, AssociateReject, AssociateRequest
from isocenter.services.association import AssociationDriver
from isocenter.services.association.access import ConnectionOrigin, RefusedContext
from isocenter.services.association.deadline_watch import DeadlineWatch
from isocenter.services.association.server.admission import Admission, Connection
from isocenter.services.association.server.options import ServerOptions
from isocenter.services.association.server.request_handler import Decision, RequestHandler
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.net.tls.transport import tls_transport
from isocenter.services.net.transport import SocketTransport, Transport
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    Caller,
    ConnectionRefused,
    RefusalReason,
    association_name,
)

log = logging.getLogger("isocenter.server")

#: First bytes by which the wrong protocol on a port is told.
_TLS_HANDSHAKE: Final = 0x16
_ASSOCIATE_RQ: Final = 0x01
_HTTP_VERBS: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PATC")


class ConnectionHandler:
    """Handles connections, each in a task of its own.

    Attributes:
        watch: looks after the deadlines of all associations, while its `DeadlineWatch.run` runs.
    """

    def __init__(
        self,
        registry: ServiceRegistry,
        options: ServerOptions,
        requests: RequestHandler,
        admission: Admission,
        statistics: Statistics,
    ) -> None:
        self._registry = registry
        self._options = options
        self._requests = requests
        self._admission = admission
        self._statistics = statistics
        self._notices = options.notices
        self.watch = DeadlineWatch()
        #: Which certificate of a chain is revoked, as of now; empty: none.
        self.revoked_in: Callable[[Sequence[bytes]], str] = lambda chain: ""

    async def handle(
        self,
        plain: SocketTransport,
        bind: ListenAddress,
        connection: Connection,
    ) -> None:
        """From accept to close; what fails on it is logged, and stays here."""
        association_name.set(connection.name)
        connection.wake_at = trio.current_time() + self._options.deadlines.association_request
        self.watch.add(connection)
        try:
            with connection.scope:
                transport = await self.open_transport(plain, bind, connection)
                if transport is None:
                    return
                connection.opened = True
                if self._options.wrap_transport is not None:
                    transport = self._options.wrap_transport(transport, Role.ACCEPTOR)
                await self._associate(transport, connection)
        except* Exception:
            # One association, not the server.
            log.exception("%s: the association failed here", connection.address)
        finally:
            plain.close()
            self.watch.remove(connection)
            self._admission.remove(connection)
            if connection.scope.cancelled_caught and not connection.associated:
                self._publish_timeout(connection)

    async def open_transport(
        self, plain: SocketTransport, bind: ListenAddress, connection: Connection
    ) -> Transport | None:
        """Know what the peer speaks, and shake hands under TLS; None: it goes."""
        first = await plain.look_ahead()
        if not first:
            return None
        address = connection.address
        if bind.tls is None:
            if first[0] == _TLS_HANDSHAKE:
                self._refuse(
                    address,
                    RefusalReason.WRONG_PROTOCOL,
                    "TLS on the port for clear text; closed. Use the TLS port",
                )
                return None
            if first[:4] in _HTTP_VERBS:
                self._refuse(
                    address,
                    RefusalReason.WRONG_PROTOCOL,
                    "an HTTP request on the DICOM port; closed",
                )
                return None
            return plain
        if first[0] != _TLS_HANDSHAKE:
            what = "clear-text DICOM" if first[0] == _ASSOCIATE_RQ else "not TLS"
            self._refuse(
                address,
                RefusalReason.WRONG_PROTOCOL,
                f"{what} on the TLS port; closed. Switch TLS on at the peer (+tls)",
            )
            return None
        self._admission.begin_handshake(connection)
        context = bind.tls()
        try:
            transport = await tls_transport(plain, context, server_side=True)
        except trio.BrokenResourceError as error:
            cause = error.__cause__
            text = (
                describe_tls_error(cause) if isinstance(cause, ssl.SSLError) else "connection lost"
            )
            self._refuse(address, RefusalReason.TLS_HANDSHAKE, f"TLS handshake failed: {text}")
            return None
        finally:
            self._admission.end_handshake(connection)
        connection.chain = transport.chain
        if bind.tls() is not context:
            # Revoked while it shook hands?
            connection.revoked = self.revoked_in(transport.chain())
        if connection.revoked:
            self._refuse(address, RefusalReason.TLS_HANDSHAKE, f"{connection.revoked} was revoked")
            return None
        return transport

    def _refuse(self, address: str, refusal: RefusalReason, detail: str) -> None:
        log.warning("%s: %s", address, detail)
        self._notices.publish(ConnectionRefused(address=address, refusal=refusal, detail=detail))

    async def _associate(self, transport: Transport, connection: Connection) -> None:
        async def decide(request: AssociateRequest) -> AssociateAccept | AssociateReject:
            decision = await self._requests.handle(request, origin, task.caller)
            self._apply(decision, request, connection, task)
            return decision.answer

        origin = ConnectionOrigin(
            host=connection.host, is_tls=connection.is_tls, identity=transport.identity
        )
        task = AssociationDriver(
            transport,
            Role.ACCEPTOR,
            provider=self._registry.perform,
            respond_immediately=self._registry.respond_immediately,
            decide=decide,
            deadlines=self._options.deadlines,
            limits=self._options.limits,
            caller=Caller(
                association=connection.name,
                address=connection.address,
                is_tls=connection.is_tls,
                certificate=(transport.identity and transport.identity.common_name) or "",
            ),
            notices=self._notices,
            watch=self.watch,
        )
        connection.task = task
        began = connection.began = task.now()
        try:
            await task.run()
        finally:
            self._statistics.bytes_received += task.traffic.bytes_received
            self._statistics.bytes_sent += task.traffic.bytes_sent
            self._statistics.operations += task.performed
            connection.task = None  # `traffic` counts it once
            self._publish_end(task, connection, task.now() - began)

    def _apply(
        self,
        decision: Decision,
        request: AssociateRequest,
        connection: Connection,
        task: AssociationDriver,
    ) -> None:
        """Apply *decision*: who is accepted is counted, and its deadline is over."""
        self.watch.remove(connection)
        task.caller, task.grant = decision.caller, decision.grant
        if decision.refused:
            log.warning("%s: not allowed: %s", connection.address, _summary(decision.refused))
        for operation, one in {each.operation: each for each in decision.refused}.items():
            self._notices.publish(
                AccessDenied(
                    caller=decision.caller,
                    command=operation,
                    sop_class_uid=one.abstract_syntax,
                    why=one.why,
                )
            )
        match decision.answer:
            case AssociateReject():
                self._statistics.rejected += 1
                self._publish_rejection(decision, decision.answer)
            case AssociateAccept():
                self._admission.associate(connection, request.calling_ae_title)
                self._statistics.associations += 1
                self._publish_acceptance(decision.caller, request, decision.answer)

    def _publish_rejection(self, decision: Decision, answer: AssociateReject) -> None:
        log.warning("%s: rejected: %s", decision.caller.address, decision.why)
        self._notices.publish(
            AssociationRejected(
                caller=decision.caller,
                result=answer.result,
                source=answer.source,
                reason=answer.reason,
                why=decision.why,
                cure=decision.cure,
            )
        )

    def _publish_acceptance(
        self, caller: Caller, request: AssociateRequest, answer: AssociateAccept
    ) -> None:
        proposed = len(answer.presentation_contexts)
        accepted = sum(context.result == 0 for context in answer.presentation_contexts)
        log.info(
            "%s: %r associated as %r, %d of %d presentation contexts accepted",
            caller.address,
            request.calling_ae_title,
            request.called_ae_title,
            accepted,
            proposed,
        )
        self._notices.publish(
            AssociationEstablished(
                caller=caller,
                contexts_proposed=proposed,
                contexts_accepted=accepted,
                max_pdu_length=request.user_information.max_pdu_length,
            )
        )

    def _publish_end(self, task: AssociationDriver, connection: Connection, seconds: float) -> None:
        reason = task.end_reason()
        if connection.associated:
            if not task.released:
                self._statistics.aborted += 1
            log.info("%s: ended: %s", connection.address, reason)
            source, reason_code = task.abort_code or (None, None)
            self._notices.publish(
                AssociationEnded(
                    caller=task.caller,
                    ending=task.ending,
                    why=str(reason),
                    seconds=seconds,
                    bytes_received=task.traffic.bytes_received,
                    bytes_sent=task.traffic.bytes_sent,
                    operations=task.performed,
                    abort_source=source,
                    abort_reason=reason_code,
                )
            )
        elif task.faulted:
            connection.told = True
            self._notices.publish(
                ConnectionRefused(
                    address=connection.address,
                    refusal=RefusalReason.WRONG_PROTOCOL,
                    detail=str(reason),
                )
            )

    def _publish_timeout(self, connection: Connection) -> None:
        if self._admission.is_closed or connection.told:
            return
        if connection.revoked:
            refusal, detail = RefusalReason.TLS_HANDSHAKE, f"{connection.revoked} was revoked"
        elif connection.dropped:
            refusal, detail = RefusalReason.TOO_MANY, "said nothing while others waited"
        else:
            step = "A-ASSOCIATE-RQ" if connection.opened else "beginning"
            refusal, detail = RefusalReason.DEADLINE, f"no {step} in time"
        self._notices.publish(
            ConnectionRefused(address=connection.address, refusal=refusal, detail=detail)
        )


def _summary(refused: Sequence[RefusedContext]) -> str:
    """One line about presentation contexts that were refused, with the cure."""
    by_reason = dict.fromkeys(one.why for one in refused)
    first = next(iter(by_reason))
    more = len(refused) - 1
    return f"{first}{f' (and {more} SOP classes more)' if more else ''}"
