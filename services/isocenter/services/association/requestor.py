"""Requestor of associations: connects, proposes, and tells the peer how it ends.

What is asked for on an association, as SCU of a service class, is not in here
(`isocenter.services.service_classes.client`).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.dimse.message_codec import Request
from isocenter.engine.errors import DeadlineExceeded, LocalProtocolError
from isocenter.engine.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
)
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.negotiation import Negotiated, Role, associate_request
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.services.association.driver import AssociationDriver
from isocenter.services.association.invoker import ReceivedResponse
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.sender import Part
from isocenter.services.concurrency import alone
from isocenter.services.net.connect import connect
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.net.transport import Transport

#: An abstract syntax and its transfer syntaxes, as proposed.
Context = tuple[str, Sequence[str]]


class InvokingAssociation(Protocol):
    """An association on which we may ask for operations: its driver, or what wraps it.

    Attributes:
        ended: set when the association is over.
        limits: how much of the peer is held in memory.
    """

    @property
    def ended(self) -> trio.Event: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def peer_log(self) -> PeerLog:
        """Log lines about the peer, bounded."""
        ...

    @property
    def negotiated(self) -> Negotiated:
        """The parameters that both sides agreed on."""
        ...

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation of ours uses (PS3.7 9.1)."""
        ...

    async def invoke(
        self,
        context_id: int,
        request: Request,
        data_set: Buffer | AsyncGenerator[Part, None] | None = None,
    ) -> ReceivedResponse:
        """An operation with a single response, from request to response."""
        ...


class Connector(Protocol):
    """Opens associations with the settings of whoever made it."""

    def __call__(
        self, peer: Peer, contexts: Sequence[Context], *, operations_window: int = 1
    ) -> AbstractAsyncContextManager[InvokingAssociation]: ...


@asynccontextmanager
async def request_association(
    peer: Peer,
    request: AssociateRequest,
    *,
    provider: Provider,
    tls: ssl.SSLContext | None = None,
    transport: Transport | None = None,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncIterator[AssociationDriver]:
    """An association with *peer*, released at the end, aborted when the body raises.

    When the body raises, is cancelled or interrupted (Ctrl-C), the peer is told: C-CANCEL-RQ for
    what is outstanding and can be cancelled, then A-ABORT.  For the end of what was cancelled, and
    for the peer to close, it waits for `Deadlines.abort` each at most; cancellation from outside
    does not cut that short.  What the body raised goes on as it is, in no exception group.

    Args:
        request: made by `association_request`.
        provider: performs what the peer requests, as it came (`ServiceRegistry.perform` looks at
            its UIDs).
        tls: for DICOM over TLS, made by `client_context`; None: in the clear.
        transport: a connection with the peer that stands already and is closed at the end;
            None: one is made.

    Raises:
        ConnectError: no connection, or no TLS.
        AssociationRejectedError: the peer said no; the message says why.
        AssociationError: it ended before it was established.
        LocalProtocolError: the proposal breaks a rule (an AE title over 16 characters …), or a
            peer that wants TLS has no context for it.
    """
    if transport is None:
        if peer.tls and tls is None:
            raise LocalProtocolError(
                f"{peer} wants TLS, and there is no context for it: give tls=client_context(…)"
            )
        transport = await connect(peer.host, peer.port, tls, deadlines, peer.tls_name)
    task = AssociationDriver(
        transport, Role.REQUESTOR, provider=provider, deadlines=deadlines, limits=limits
    )
    failure: BaseException | None = None
    fault: BaseException | None = None
    finished = trio.Event()
    # Who is cancelled still has to tell the peer, and what the peer says then has to be read: so
    # the reader outlives the body, and ends by `reading` and nothing else.
    reading, using = trio.CancelScope(shield=True), trio.CancelScope()

    async def read() -> None:
        nonlocal fault
        try:
            with reading:
                await task.run()
        except BaseException as error:  # a nursery would wrap it
            fault = alone(error)
            using.cancel()
        finally:
            finished.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                try:
                    with using:
                        await _establish(task, request)
                        yield task
                        await task.release()
                except BaseException as error:
                    failure = error
                    await task.give_up()
                with trio.move_on_after(deadlines.abort, shield=True):
                    await task.closed.wait()
            finally:
                reading.cancel()
            with trio.CancelScope(shield=True):
                await finished.wait()
    finally:
        with trio.CancelScope(shield=True):
            await transport.aclose()
    # Whoever opened the association sees its own, and not a group of it.
    if fault is not None:
        raise fault
    if failure is not None:
        raise failure


async def _establish(task: AssociationDriver, request: AssociateRequest) -> None:
    with trio.move_on_after(task.deadlines.association_response) as scope:
        await task.request_association(request)
        await task.established_or_ended()
    if scope.cancelled_caught:
        raise DeadlineExceeded(
            f"no answer to A-ASSOCIATE-RQ within {task.deadlines.association_response:g} s"
        )
    if not task.established.is_set():
        raise task.end_reason()


def association_request(
    peer: Peer,
    contexts: Sequence[Context],
    *,
    calling_ae_title: str,
    scp_roles: Iterable[str] = (),
    extended: Sequence[ExtendedNegotiation] = (),
    related: Sequence[CommonExtendedNegotiation] = (),
    user_identity: UserIdentity | None = None,
    operations_window: int = 1,
    max_pdu_length: int = DEFAULT_LIMITS.max_pdu_length,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
) -> AssociateRequest:
    """An A-ASSOCIATE-RQ to *peer*.

    Args:
        contexts: abstract syntaxes with their transfer syntaxes, at most 128; the same abstract
            syntax may stand several times.
        scp_roles: SOP classes for which we offer to be SCP (PS3.7 D.3.3.4).
        related: service class and general SOP classes of SOP classes that the peer may not know
            (PS3.7 D.3.3.6).
        operations_window: operations that may be outstanding at once, each way.

    Raises:
        LocalProtocolError: no presentation context, or more than 128.
        TypeError: *contexts* are no pairs.
    """
    for context in contexts:
        if not _is_context(context):
            raise TypeError(
                f"{context!r} is no (abstract syntax, [transfer syntaxes]), such as "
                "(VERIFICATION, BASIC_SYNTAXES)"
            )
    request = associate_request(
        peer.ae_title,
        calling_ae_title,
        contexts,
        max_pdu_length=max_pdu_length,
        implementation_class_uid=implementation_class_uid,
        implementation_version_name=implementation_version_name,
    )
    window = (
        AsynchronousOperationsWindow(operations_window, operations_window)
        if operations_window != 1
        else None
    )
    return replace(
        request,
        user_information=replace(
            request.user_information,
            asynchronous_operations_window=window,
            role_selections=tuple(
                RoleSelection(uid, scu_role=False, scp_role=True)
                for uid in dict.fromkeys(scp_roles)
            ),
            extended_negotiations=tuple(extended),
            common_extended_negotiations=tuple(related),
            user_identity=user_identity,
        ),
    )


def _is_context(context: object) -> bool:
    """Whether it is a pair; one text where a list of them belongs would be a list of letters."""
    return (
        isinstance(context, tuple | list) and len(context) == 2 and not isinstance(context[1], str)
    )
