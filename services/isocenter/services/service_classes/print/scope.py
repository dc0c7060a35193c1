"""Scope of an association in print management: its film session, and memory for images."""

from __future__ import annotations

from dataclasses import field

import trio

from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.film.film import PresentationLut
from isocenter.services.service_classes.print.attributes import PrintError
from isocenter.services.service_classes.print.film_session import FilmBox, FilmSession
from isocenter.services.service_classes.print.job import PrintJobState


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintLimits:
    """What whoever prints may take.

    Attributes:
        films: film boxes of one film session.
        image_bytes: one image, with its attributes.
        memory_bytes: the images of all associations of this process together.
        luts: presentation LUTs of one association.
        film_pixels: of one film.
        film_bytes: the images of one film together.
    """

    films: int = 50
    image_bytes: int = 128 << 20
    memory_bytes: int = 512 << 20
    luts: int = 64
    film_pixels: int = 100_000_000
    film_bytes: int = 512 << 20


class ImageMemory:
    """So many bytes for images; what is not there is refused, and nobody waits for it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def take(self, count: int) -> bool:
        """Whether there were *count* bytes, which are taken now."""
        if self.taken + count > self.limit:
            return False
        self.taken += count
        return True

    def give(self, count: int) -> None:
        """*count* bytes are free again."""
        self.taken -= count


@dataclass(slots=True, eq=False)
class AssociationScope:
    """What there is on one association, and gone with it (PS3.4 H.4.1.1).

    Attributes:
        turn: requests are performed one after the other.
        jobs: print jobs that it began and that are not over, as they were told of last.
    """

    session: FilmSession | None = None
    luts: dict[str, PresentationLut] = field(default_factory=dict)
    jobs: dict[str, PrintJobState] = field(default_factory=dict)
    turn: trio.Lock = field(default_factory=trio.Lock)

    @property
    def held(self) -> int:
        """Bytes of its images."""
        return 0 if self.session is None else self.session.held


def check_uid(sop_instance_uid: str) -> None:
    """Raise `PrintError` (0117H) where that is no UID."""
    if not is_safe_uid(sop_instance_uid):
        raise PrintError(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")


def has_context(operation: Operation, abstract_syntax: str) -> bool:
    """Whether the association has a presentation context for it."""
    contexts = operation.association.negotiated.contexts.values()
    return any(each.abstract_syntax == abstract_syntax for each in contexts)


def film_session(scope: AssociationScope, uid: str) -> FilmSession:
    """The film session with that UID.

    Raises:
        PrintError: 0112H: it is not of this association.
    """
    if scope.session is None or scope.session.sop_instance_uid != uid:
        raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such film session")
    return scope.session


def film_box_of(scope: AssociationScope, uid: str) -> FilmBox:
    """The film box with that UID; raises as `film_session`."""
    found = None if scope.session is None else scope.session.film_boxes.get(uid)
    if found is None:
        raise PrintError(Status.NO_SUCH_SOP_INSTANCE, "there is no such film box")
    return found
