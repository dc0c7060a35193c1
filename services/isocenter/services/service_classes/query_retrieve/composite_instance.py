"""Composite instance root retrieve, also without bulk data, as SCP (PS3.4 Y, Z)."""

from __future__ import annotations

from functools import partial
from typing import Final

from isocenter.engine.dataset import DataSetError, encoding_of, read_data_set
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.index.attributes import BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.read_ahead import ReadAhead
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import Statuses
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.uid_registry import (
    COMPOSITE_INSTANCE_GET,
    COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA,
    COMPOSITE_INSTANCE_MOVE,
    IDENTIFIER_SYNTAXES,
)
from isocenter.services.service_classes.query_retrieve.frame_extraction import (
    extracted,
    read_source,
)
from isocenter.services.service_classes.query_retrieve.frame_request import (
    FrameRequest,
    FrameStatus,
    parse_frame_request,
)
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    QueryOptions,
    Retrieval,
)
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    QUERY_RETRIEVE_LEVEL,
    IdentifierError,
    identifier_mismatch,
    match_of,
)
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.query_retrieve.suboperations import RETRIEVE_STATUSES
from isocenter.services.service_classes.query_retrieve.without_bulk_data import without_bulk_data

_FRAME: Final = "FRAME"
_SOP_INSTANCE_UID: Final = UNIQUE_KEY[Level.IMAGE]

_OF_FRAMES: Final[Statuses] = {
    FrameStatus.NO_SUCH_FRAMES: "the instance has none of the frames",
    FrameStatus.CANNOT_CREATE: "the instance has no frames",
    FrameStatus.CANNOT_EXTRACT: "the frames of the instance cannot be told apart",
    FrameStatus.NOT_TIME_BASED: "a time range, and the frames have no times",
    FrameStatus.INVALID_REQUEST: "the frame list or time range is none",
}
_STATUSES: Final[Statuses] = {**RETRIEVE_STATUSES, **_OF_FRAMES}


@dataclass(frozen=True, slots=True)
class FrameExtraction:
    """The frames of one instance as a new one; see `Retrieval.change`."""

    request: FrameRequest
    station: str

    async def check(self, instance: StoredInstance, ahead: ReadAhead) -> None:
        """Whether there can be one.

        Raises:
            FrameError: AA00H to AA03H.
        """
        await read_source(stored_object(instance, ahead.open), self.request)


def parse_retrieval(operation: Operation, identifier: bytes, options: QueryOptions) -> Retrieval:
    """The instances, or the frames of one, that an identifier asks for (Y.4.1.1.3).

    Raises:
        IdentifierError: A900H: the level is neither IMAGE nor FRAME, or a key is missing or none.
            C000H: not a data set.
        FrameError: AA04H.
    """
    syntax = operation.context.transfer_syntax
    encoding = encoding_of(syntax)
    try:
        elements = read_data_set(identifier, encoding)
    except DataSetError as error:
        raise IdentifierError(
            Status.CANNOT_UNDERSTAND, f"identifier cannot be read: {error}"
        ) from error
    level = elements.get(QUERY_RETRIEVE_LEVEL)
    text = b"" if level is None or isinstance(level.value, tuple) else level.value
    if decode_text(text, "CS") != _FRAME:
        parsed = parse_query(
            identifier,
            syntax,
            root=InformationModel.COMPOSITE_INSTANCE,
            for_retrieve=True,
            undeclared=options.undeclared,
        )
        return Retrieval(parsed.query)
    key = elements.get(_SOP_INSTANCE_UID)
    match = None if key is None else match_of(BY_TAG[_SOP_INSTANCE_UID].vr, key, encoding, ())
    if not isinstance(match, SingleValue):
        raise identifier_mismatch(
            f"{tag_text(_SOP_INSTANCE_UID)} must be a single UID at level {_FRAME}",
            _SOP_INSTANCE_UID,
        )
    request = parse_frame_request(elements, encoding)
    extraction = FrameExtraction(request, operation.association.negotiated.called_ae_title)
    return Retrieval(
        Query(level=Level.IMAGE, criteria=(Criterion(_SOP_INSTANCE_UID, match),)),
        change=partial(extracted, request=request, station=extraction.station),
        check=extraction.check,
    )


class CompositeInstanceGetScp(GetScp):
    """Performs C-GET of instances by their UIDs alone, of frames, and without bulk data."""

    name = "get by instance"
    statuses = _STATUSES

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax in _GET_CLASSES else None

    def retrieval(self, operation: Operation, identifier: bytes) -> Retrieval:
        """Args and raises as `parse_retrieval`; A900H also for frames without bulk data."""
        found = parse_retrieval(operation, identifier, self.options)
        if operation.context.abstract_syntax != COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA:
            return found
        if found.change is not None:
            raise identifier_mismatch(
                "without bulk data there is the level IMAGE only", QUERY_RETRIEVE_LEVEL
            )
        return Retrieval(found.query, change=without_bulk_data)


class CompositeInstanceMoveScp(MoveScp):
    """Performs C-MOVE of instances by their UIDs alone, and of frames."""

    name = "move by instance"
    statuses = {**MoveScp.statuses, **_OF_FRAMES}  # noqa: RUF012  (as of its base)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return _OFFER if abstract_syntax == COMPOSITE_INSTANCE_MOVE else None

    def retrieval(self, operation: Operation, identifier: bytes) -> Retrieval:
        """Args and raises as `parse_retrieval`."""
        return parse_retrieval(operation, identifier, self.options)


_OFFER: Final = Offer(transfer_syntaxes=IDENTIFIER_SYNTAXES)
_GET_CLASSES: Final = frozenset({COMPOSITE_INSTANCE_GET, COMPOSITE_INSTANCE_GET_WITHOUT_BULK_DATA})
