"""What every driver needs beside `Association`, and none should write a second time.

Pure functions over the engine's values.  How bytes move and what a deadline is
remains the driver's; how to write one is told in ``docs/how-to/write-a-driver.md``.
"""

from __future__ import annotations

from collections.abc import Iterable

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
from isocenter.engine.items import UserInformation
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
) -> AssociateRequest:
    """An A-ASSOCIATE-RQ of ours, without extended negotiation.

    Args:
        contexts: abstract syntax and transfer syntaxes of each presentation context.
        max_pdu_length: what we announce, in bytes; 0 for no limit.

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
