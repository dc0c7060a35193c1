"""Findings between two peers: plain words, clause and cure.

The same findings serve whoever looks at a capture and whoever talks to a peer itself.
Nothing here knows how a fault was noticed, and no finding holds an attribute value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from isocenter.engine.dimse.status import Status, StatusClass, classify
from isocenter.engine.errors import (
    ABORT_REASONS,
    INVALID_PDU_PARAMETER_VALUE,
    REJECT_REASONS,
    SERVICE_USER,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    LimitExceeded,
    RemoteProtocolError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import ACCEPTANCE
from isocenter.engine.pdu import Abort, AssociateAccept, AssociateReject, AssociateRequest
from isocenter.engine.states import Sta

#: Where a message of the engine names its clause.
_CLAUSE: Final = re.compile(r"PS3\.\d+ (?:Annex |Table )?[A-Z0-9][\w.-]*")


class Severity(Enum):
    """How bad it is."""

    #: Something failed.
    ERROR = "error"
    #: It went on, but not as both sides wanted.
    WARNING = "warning"
    #: Good to know.
    NOTE = "note"


class Side(Enum):
    """Where to change something, for whoever is one of the two peers."""

    HERE = "here"
    PEER = "at the peer"
    EITHER = "on either side"
    BETWEEN = "between the two"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that went wrong.

    Attributes:
        text: what, in one line, without PHI.
        clause: of the standard, as ``PS3.8 9.3.4``; empty: none speaks of it.
        cure: what to change; empty: nothing, or nobody knows.
        meaning: what follows from it; empty: *text* says it.
        side: where to change it; None: whoever looks is neither peer, or *cure* says it.
    """

    severity: Severity
    text: str
    clause: str = ""
    cure: str = ""
    meaning: str = ""
    side: Side | None = None


def error(
    text: str, clause: str = "", cure: str = "", *, meaning: str = "", side: Side | None = None
) -> Finding:
    """Something failed."""
    return Finding(Severity.ERROR, text, clause, cure, meaning, side)


def warning(
    text: str, clause: str = "", cure: str = "", *, meaning: str = "", side: Side | None = None
) -> Finding:
    """It went on, but not as both sides wanted."""
    return Finding(Severity.WARNING, text, clause, cure, meaning, side)


def note(
    text: str, clause: str = "", cure: str = "", *, meaning: str = "", side: Side | None = None
) -> Finding:
    """Good to know."""
    return Finding(Severity.NOTE, text, clause, cure, meaning, side)


#: (source, reason) of an A-ASSOCIATE-RJ → what to change (PS3.8 Table 9-21).
_REJECT_CURES: Final = {
    (1, 1): "see the acceptor's log; often a license, a number of associations, or AE titles",
    (1, 2): "the requestor has to name DICOM's application context, 1.2.840.10008.3.1.1.1",
    (1, 3): "make the calling AE title known at the acceptor, or call with one that it knows; "
    "over TLS, with the one of the certificate",
    (1, 7): "call the AE title that the acceptor has; capital letters count",
    (2, 1): "see the acceptor's log",
    (2, 2): "one side is no DICOM application of this century: protocol version 1 is bit 0",
    (3, 1): "try again later, with fewer associations at once",
    (
        3,
        2,
    ): "the acceptor has as many associations as it allows: close idle ones, or raise its limit",
}

#: Reason of the service-provider's A-ABORT → where to look (PS3.8 Table 9-26).
_ABORT_CURES: Final = {
    UNRECOGNIZED_PDU: "something that is not DICOM came over the connection; is TLS, or a proxy, "
    "on one side only?",
    UNEXPECTED_PDU: "look at the last PDU that went to the side that aborted",
    INVALID_PDU_PARAMETER_VALUE: "look at the last PDU that went to the side that aborted",
}

#: Result of a presentation context in an A-ASSOCIATE-AC (PS3.8 Table 9-18).
CONTEXT_RESULTS: Final = {
    ACCEPTANCE: "accepted",
    1: "user-rejection",
    2: "no reason (provider rejection)",
    3: "abstract syntax not supported",
    4: "transfer syntaxes not supported",
}
_CONTEXT_CURES: Final = {
    1: "see the acceptor's configuration of this SOP class",
    2: "see the acceptor's log",
    3: "the acceptor does not serve this SOP class: switch it on there, or use another",
    4: "propose one that the acceptor knows; implicit VR little endian is always allowed "
    "(PS3.5 10.1)",
}

_STATUS_CURES: Final[dict[int, str]] = {
    Status.SOP_CLASS_NOT_SUPPORTED: "the performer does not serve this SOP class",
    Status.DUPLICATE_SOP_INSTANCE: "an object with this SOP Instance UID is there already",
    Status.DUPLICATE_INVOCATION: "the invoker uses a Message ID again before its operation ended",
    Status.NOT_AUTHORIZED: "see the performer's access rules",
    Status.OUT_OF_RESOURCES: "room, memory or licenses of the performer are used up",
    Status.UNABLE_TO_CALCULATE_MATCHES: "room or memory of the performer is used up",
    Status.UNABLE_TO_PERFORM_SUBOPERATIONS: "can the performer reach the destination?",
    Status.MOVE_DESTINATION_UNKNOWN: "make the move destination known at the performer, "
    "with its address and port",
    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the data set is not of the SOP class that the "
    "command names, or a key is missing",
}


def of_fault(cause: RemoteProtocolError, who: str) -> Finding:
    """*who* broke the protocol, as the engine saw it."""
    text = str(cause)
    cure = ""
    if isinstance(cause, LimitExceeded):
        cure = f"the {who} has to keep to what the other side announced, or to sane sizes"
    return error(
        f"the {who} broke the protocol: {text}; the answer of the standard is A-ABORT "
        f"with reason {cause.reason} ({ABORT_REASONS.get(cause.reason, 'reserved reason')})",
        clause_in(text),
        cure,
    )


def of_reject(reject: AssociateReject) -> Finding:
    """An A-ASSOCIATE-RJ."""
    key = reject.source, reject.reason
    return error(
        f"the association was rejected: {REJECT_REASONS.get(key, 'reserved reason')}",
        "PS3.8 9.3.4",
        _REJECT_CURES.get(key, ""),
    )


def of_abort(abort: Abort, who: str) -> Finding:
    """An A-ABORT of *who*."""
    if abort.source == SERVICE_USER:
        return error(f"the application of the {who} aborted", "PS3.8 9.3.8", f"see the {who}'s log")
    reason = ABORT_REASONS.get(abort.reason, "reserved reason")
    return error(
        f"the upper layer of the {who} aborted: {reason}",
        "PS3.8 9.3.8",
        _ABORT_CURES.get(abort.reason, ""),
    )


def of_loss(who: str, before: Sta | None) -> Finding:
    """*who* closed the connection while the other side was in the state *before*.

    Args:
        before: None where it is not known.
    """
    if before is Sta.STA5:
        return error(
            f"the {who} closed instead of answering the A-ASSOCIATE-RQ",
            "PS3.8 Table 9-10",
            "does the port expect TLS, or another protocol? Does it refuse this address?",
        )
    if before is Sta.STA8:
        return warning(f"the {who} closed without waiting for the A-RELEASE-RP", "PS3.8 Table 9-10")
    return error(
        f"the {who} closed without A-RELEASE or A-ABORT",
        "PS3.8 Table 9-10",
        f"look for a crash or a time-out of the {who}, or a firewall between the two",
    )


def of_contexts(
    request: AssociateRequest, accept: AssociateAccept, name: Callable[[str], str]
) -> list[Finding]:
    """SOP classes that were proposed and of which no presentation context was accepted."""
    proposed = {context.context_id: context for context in request.presentation_contexts}
    results: dict[str, int] = {}
    for result in accept.presentation_contexts:
        context = proposed.get(result.context_id)
        if context is not None and results.get(context.abstract_syntax) != ACCEPTANCE:
            results[context.abstract_syntax] = result.result
    refused = {syntax: result for syntax, result in results.items() if result != ACCEPTANCE}
    found = [
        warning(
            f"{name(syntax)} was not accepted: {CONTEXT_RESULTS.get(result, 'reserved result')}",
            "PS3.8 9.3.3.2",
            _CONTEXT_CURES.get(result, ""),
        )
        for syntax, result in refused.items()
    ]
    if len(refused) == len(results):
        found.append(error("no presentation context was accepted", "PS3.8 9.3.3.2"))
    return found


def context_cure(result: int) -> str:
    """What may help against a result of Table 9-18; empty: nobody knows."""
    return _CONTEXT_CURES.get(result, "")


def of_status(status: int, text: str) -> Finding | None:
    """A response whose status is no success; None for what is as it should be.

    Args:
        text: the response in one line, as `isocenter.engine.describe` says it.
    """
    match classify(status):
        case StatusClass.FAILURE:
            return error(text, "PS3.7 Annex C", _STATUS_CURES.get(status, ""))
        case StatusClass.WARNING:
            return warning(text, "PS3.7 Annex C")
        case _:
            return None


def clause_in(text: str) -> str:
    """The last clause of the standard that *text* names; empty when it names none."""
    found = _CLAUSE.findall(text)
    return found[-1].rstrip(".") if found else ""
