"""The query/retrieve information models: what FIND, MOVE and GET have in common (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services import sop_classes
from isocenter.services.errors import OperationError
from isocenter.services.identifier import IdentifierError, ParsedQuery, Root, parse_query
from isocenter.services.operations import Operation

#: Identifiers are small: every encoding that we read and write is accepted.
IDENTIFIER_SYNTAXES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

FIND_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_FIND: Root.PATIENT,
    sop_classes.STUDY_ROOT_FIND: Root.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_FIND: Root.PATIENT_STUDY_ONLY,
}
MOVE_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_MOVE: Root.PATIENT,
    sop_classes.STUDY_ROOT_MOVE: Root.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_MOVE: Root.PATIENT_STUDY_ONLY,
}
GET_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_GET: Root.PATIENT,
    sop_classes.STUDY_ROOT_GET: Root.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_GET: Root.PATIENT_STUDY_ONLY,
}

#: Bytes of the service class application information (PS3.4 C.5.1.1.1, C.5.2.1.1, C.5.3.1.1).
_RELATIONAL: Final = 0
_COMBINED_DATE_TIME: Final = 1
#: What FIND says yes to when it is asked: relational queries, combined date-time matching;
#: not fuzzy names, time zones or enhanced views; empty value and multiple value matching.
_FIND_SUPPORTS: Final = bytes((1, 1, 0, 0, 0, 1, 1))
#: MOVE and GET: relational retrieval; no enhanced conversion.
_RETRIEVE_SUPPORTS: Final = bytes((1, 0))


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """How queries are understood.

    Attributes:
        relational: agree to relational queries and retrieval when a peer asks for them.
        always_relational: do without the unique keys above the level even when relational
            queries were not negotiated (many clients count on it; the standard refuses).
        max_results: matches of one C-FIND; 0: no limit.
    """

    relational: bool = True
    always_relational: bool = False
    max_results: int = 0


def _answer(supported: bytes, options: QueryOptions) -> Callable[[bytes], bytes | None]:
    if not options.relational:
        supported = bytes((0,)) + supported[1:]

    def agree(asked: bytes) -> bytes | None:
        return (
            bytes(
                ours & (1 if theirs else 0) for ours, theirs in zip(supported, asked, strict=False)
            )
            or None
        )

    return agree


def find_offer(options: QueryOptions) -> Offer:
    """What is offered for FIND, with its extended negotiation (PS3.4 C.5.1.1)."""
    return Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES, extended=_answer(_FIND_SUPPORTS, options))


def retrieve_offer(options: QueryOptions) -> Offer:
    """What is offered for MOVE and GET, with extended negotiation (PS3.4 C.5.2.1, C.5.3.1)."""
    return Offer(
        transfer_syntaxes=IDENTIFIER_SYNTAXES, extended=_answer(_RETRIEVE_SUPPORTS, options)
    )


async def read_query(
    operation: Operation, root: Root, options: QueryOptions, *, for_retrieve: bool
) -> ParsedQuery:
    """The identifier of an operation as a query.

    Raises:
        OperationError: A900H, C000H: what PS3.4 C.4 says of an identifier that does not fit.
    """
    if not operation.has_data_set:
        raise OperationError(0xA900, "request without an identifier")
    identifier = await operation.data_set()
    agreed = operation.association.negotiated.extended_negotiations.get(
        operation.context.abstract_syntax, b""
    )
    try:
        return parse_query(
            identifier,
            operation.context.transfer_syntax,
            root=root,
            relational=options.always_relational or _flag(agreed, _RELATIONAL),
            combined_date_time=not for_retrieve and _flag(agreed, _COMBINED_DATE_TIME),
            for_retrieve=for_retrieve,
        )
    except IdentifierError as error:
        raise OperationError(error.status, str(error), error.offending) from error


def _flag(agreed: bytes, position: int) -> bool:
    return len(agreed) > position and agreed[position] == 1
