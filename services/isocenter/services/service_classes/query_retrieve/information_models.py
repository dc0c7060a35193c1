"""The query/retrieve information models: what FIND, MOVE and GET have in common (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from isocenter.engine.extended_negotiation import FindFlags, RetrieveFlags
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.corrections.ports import LinkedPatients
from isocenter.services.archive.index.query import NameComparison, Query
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import ReadAhead
from isocenter.services.association.operation import Operation
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    ParsedQuery,
    parse_query,
)

FIND_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_FIND: InformationModel.PATIENT,
    sop_classes.STUDY_ROOT_FIND: InformationModel.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_FIND: InformationModel.PATIENT_STUDY_ONLY,
}
MOVE_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_MOVE: InformationModel.PATIENT,
    sop_classes.STUDY_ROOT_MOVE: InformationModel.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_MOVE: InformationModel.PATIENT_STUDY_ONLY,
}
GET_ROOTS: Final = {
    sop_classes.PATIENT_ROOT_GET: InformationModel.PATIENT,
    sop_classes.STUDY_ROOT_GET: InformationModel.STUDY,
    sop_classes.PATIENT_STUDY_ONLY_GET: InformationModel.PATIENT_STUDY_ONLY,
}

#: What FIND says yes to when it is asked: no enhanced views.
_FIND_SUPPORTS: Final = FindFlags(
    relational=True,
    combined_date_time=True,
    fuzzy_person_names=True,
    timezone_adjustment=True,
    empty_value_matching=True,
    multiple_value_matching=True,
)
_RETRIEVE_SUPPORTS: Final = RetrieveFlags(relational=True)


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """How queries are understood.

    Attributes:
        relational: agree to relational queries and retrieval when a peer asks for them.
        always_relational: do without the unique keys above the level even when relational
            queries were not negotiated (many clients count on it; the standard refuses).
        fuzzy_names: agree to fuzzy semantic matching of person names.
        time_zone: of what objects say without an offset from UTC, as the IANA time zone database
            names it; empty: that of this machine.
        shows_first: where objects say different things, answers show what was said first, not
            last.
        max_results: matches of one C-FIND; 0: no limit.
        max_seconds: for one C-FIND; 0: no limit.
        max_suboperations: instances of one C-MOVE or C-GET; 0: no limit.
        undeclared: the character set of identifiers that declare none.
        links: of patients, which queries by ID follow; None: they follow none.
    """

    relational: bool = True
    always_relational: bool = False
    fuzzy_names: bool = True
    time_zone: str = ""
    shows_first: bool = False
    max_results: int = 0
    max_seconds: float = 0
    max_suboperations: int = 0
    undeclared: tuple[str, ...] = ()
    links: LinkedPatients | None = None


def links_for(operation: Operation, options: QueryOptions) -> LinkedPatients | None:
    """The links that a query follows; None: none, as of callers of a project of de-identification:
    they ask by pseudonyms, and how long an ID takes would tell whether it has links."""
    return None if operation.project else options.links


#: What is sent in the place of an object, for as long as its context lasts.
ObjectChange = Callable[[DicomObject], AbstractAsyncContextManager[DicomObject]]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a C-MOVE or C-GET asks for.

    Attributes:
        change: what of each object is sent; None: all of it.
        check: raises `OperationError` where nothing can be sent of the first instance.
    """

    query: Query
    change: ObjectChange | None = None
    check: Callable[[StoredInstance, ReadAhead], Awaitable[None]] | None = None

    async def check_first(self, instances: Sequence[StoredInstance], ahead: ReadAhead) -> None:
        """Raise what `check` raises of the first, if there is one."""
        if self.check is not None and instances:
            await self.check(instances[0], ahead)


def find_offer(options: QueryOptions) -> Offer:
    """What is offered for FIND, with its extended negotiation (PS3.4 C.5.1.1)."""
    supported = replace(
        _FIND_SUPPORTS, relational=options.relational, fuzzy_person_names=options.fuzzy_names
    )
    return Offer(
        transfer_syntaxes=IDENTIFIER_SYNTAXES,
        extended=lambda asked: supported.both(FindFlags.decode(asked)).encode(),
    )


def retrieve_offer(options: QueryOptions) -> Offer:
    """What is offered for MOVE and GET, with extended negotiation (PS3.4 C.5.2.1, C.5.3.1)."""
    supported = replace(_RETRIEVE_SUPPORTS, relational=options.relational)
    return Offer(
        transfer_syntaxes=IDENTIFIER_SYNTAXES,
        extended=lambda asked: supported.both(RetrieveFlags.decode(asked)).encode(),
    )


def find_query(
    operation: Operation, identifier: bytes, root: InformationModel, options: QueryOptions
) -> ParsedQuery:
    """The identifier of a C-FIND as a query.

    Raises:
        IdentifierError: A900H, C000H: what PS3.4 C.4 says of an identifier that does not fit.
    """
    agreed = FindFlags.decode(negotiated_information(operation))
    return parse_query(
        identifier,
        operation.context.transfer_syntax,
        root=root,
        relational=options.always_relational or agreed.relational,
        combined_date_time=agreed.combined_date_time,
        time_zone=options.time_zone if agreed.timezone_adjustment else None,
        names=names_of(agreed),
        undeclared=options.undeclared,
    )


def names_of(agreed: FindFlags) -> NameComparison:
    """How the person names of a query are compared."""
    return NameComparison.FUZZY if agreed.fuzzy_person_names else NameComparison.LITERAL


def retrieve_query(
    operation: Operation, identifier: bytes, root: InformationModel, options: QueryOptions
) -> ParsedQuery:
    """The identifier of a C-MOVE or C-GET as a query; raises as `find_query`."""
    agreed = RetrieveFlags.decode(negotiated_information(operation))
    return parse_query(
        identifier,
        operation.context.transfer_syntax,
        root=root,
        relational=options.always_relational or agreed.relational,
        for_retrieve=True,
        undeclared=options.undeclared,
    )


def negotiated_information(operation: Operation) -> bytes:
    """Service-class-application-information for the SOP class; empty: none was agreed on."""
    return operation.association.negotiated.extended_negotiations.get(
        operation.context.abstract_syntax, b""
    )
