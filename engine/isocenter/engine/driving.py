"""Helpers of drivers: association requests, end reasons, contexts.

Pure functions over the engine's values.  How bytes move and what a deadline is
remains the driver's; how to write one is told in ``docs/how-to/write-a-driver.md``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from isocenter.engine.dimse.message_codec import Request, UnrecognizedMessage, sop_class_of
from isocenter.engine.dimse.status import Status
from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    LocalProtocolError,
    ProviderAbortedError,
    TransportLostError,
)
from isocenter.engine.events import (
    AssociationAborted,
    AssociationRejected,
    Event,
    ProviderAborted,
)
from isocenter.engine.items import AsynchronousOperationsWindow, UserInformation
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    MOST_CONTEXTS,
    Negotiated,
    PresentationContext,
    propose,
)
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def end_reason(event: Event) -> AssociationError | None:
    """The exception for whoever waits on an association that *event* has ended.

    None for every event after which it goes on, and for `AssociationReleased`, an end
    that was asked for.  The peer's fault, as we saw it, is the exception's ``__cause__``.
    """
    match event:
        case AssociationRejected(reject):
            return AssociationRejectedError(reject.result, reject.source, reject.reason)
        case AssociationAborted(source, reason):
            return AssociationAbortedError(source, reason)
        case ProviderAborted(transport_lost=True):
            return TransportLostError()
        case ProviderAborted(reason, cause):
            error = ProviderAbortedError(reason, str(cause) if cause else "")
            error.__cause__ = cause
            return error
        case _:
            return None


def associate_request(
    called_ae_title: str,
    calling_ae_title: str,
    contexts: Iterable[tuple[str, Iterable[str]]],
    *,
    max_pdu_length: int = DEFAULT_LIMITS.max_pdu_length,
    operations_invoked: int = 1,
    operations_performed: int = 1,
) -> AssociateRequest:
    """An A-ASSOCIATE-RQ of ours, without extended negotiation.

    Args:
        contexts: abstract syntax and transfer syntaxes of each presentation context.
        max_pdu_length: what we announce, in bytes; 0 for no limit.
        operations_invoked, operations_performed: how many operations of ours, and of the peer,
            may be outstanding at once; 0 for no limit.  Without more than one of each nothing is
            asked for, and what the peer answers decides (`Negotiated.operations_invoked`).

    Raises:
        LocalProtocolError: no presentation context, or more than 128 (PS3.8 9.3.2.2).
    """
    proposals = propose(contexts)
    if len(proposals) != 1:
        count = sum(map(len, proposals))
        raise LocalProtocolError(
            f"{count} presentation contexts; one association carries 1 to {MOST_CONTEXTS} "
            "(PS3.8 9.3.2.2)"
        )
    return AssociateRequest(
        called_ae_title=called_ae_title,
        calling_ae_title=calling_ae_title,
        presentation_contexts=proposals[0],
        user_information=UserInformation(
            max_pdu_length=max_pdu_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            asynchronous_operations_window=None
            if operations_invoked == operations_performed == 1
            else AsynchronousOperationsWindow(operations_invoked, operations_performed),
        ),
    )


def context_for(
    negotiated: Negotiated, abstract_syntax: str, transfer_syntax: str | None = None
) -> PresentationContext:
    """The first accepted presentation context on which we may request operations.

    Args:
        transfer_syntax: the one that the data set is encoded in; None for any.

    Raises:
        LocalProtocolError: the peer accepted none.
    """
    for context in negotiated.contexts.values():
        if (
            context.as_scu
            and context.abstract_syntax == abstract_syntax
            and transfer_syntax in (None, context.transfer_syntax)
        ):
            return context
    wanted = f" with transfer syntax {transfer_syntax!r}" if transfer_syntax else ""
    raise LocalProtocolError(f"the peer accepted no context for {abstract_syntax!r}{wanted}")


class Refusal(NamedTuple):
    """Why a request is not performed: its status, and a word for Error Comment (0000,0902)."""

    status: int
    comment: str


_NOT_OUR_ROLE: Final = Refusal(
    Status.UNRECOGNIZED_OPERATION, "not for our role on this presentation context"
)
_ANOTHER_CLASS: Final = Refusal(
    Status.SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context"
)


def refusal_of(
    context: PresentationContext, request: Request, members: Container[str] = ()
) -> Refusal | None:
    """What *request* has to be refused with on its presentation context; None: nothing.

    Asked before anything else of a request, as the engine hands up whatever can be answered.

    Args:
        members: SOP classes beside the abstract syntax that it may be about (`Offer.members`).
    """
    if isinstance(request, UnrecognizedMessage):
        return Refusal(request.status, request.error)
    if not context.may_perform(request):
        return _NOT_OUR_ROLE
    sop_class_uid = sop_class_of(request)
    if sop_class_uid != context.abstract_syntax and sop_class_uid not in members:
        return _ANOTHER_CLASS
    return None


class Part(NamedTuple):
    """Where a part of a file begins, how long it is, and whether it is the last; in bytes."""

    start: int
    length: int
    is_last: bool


def parts_of(start: int, end: int, length: int = 262_144) -> Iterator[Part]:
    """The parts to send of what lies from *start* to *end*; one, which is empty, of nothing.

    The last is known from the length of the file, so that none need be read ahead of it.  All
    but the last are *length* long; let it be even: each part ends a fragment, and some peers
    count on even ones.
    """
    while end - start > length:
        yield Part(start, length, is_last=False)
        start += length
    yield Part(start, end - start, is_last=True)
