"""Output of print jobs that is a DICOM printer of somebody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import trio

from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.creation.raster_pictures import read_raster
from isocenter.services.dicom.film.film import FILM_SIZES, MILLIMETRES_PER_INCH
from isocenter.services.dicom.film.pictures import for_printer
from isocenter.services.errors import NoPresentationContextError, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.print.job import ComposedFilm, PrintJob
from isocenter.services.service_classes.print.scu import (
    FilmPage,
    PrintImage,
    PrintOptions,
    contexts,
    print_films,
)
from isocenter.services.service_classes.print.spooler import OutputError

#: Opens an association with a printer.
PrinterConnector = Callable[
    [Peer, Sequence[Context]], AbstractAsyncContextManager[ClientAssociation]
]
#: Where a PNG says which colours it has: RGB.
_COLOUR_TYPE: Final = 25
_RGB: Final = 2


class PrinterPeer:
    """A DICOM printer: each film of ours is the one image of a film there.

    Args:
        ae_title: of the printer.
        peer_of: where an AE title listens; None: it is not known.
    """

    def __init__(
        self, ae_title: str, peer_of: Callable[[str], Peer | None], connect: PrinterConnector
    ) -> None:
        self._ae_title = ae_title
        self._peer_of = peer_of
        self._connect = connect

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        peer = self._peer_of(self._ae_title)
        if peer is None:
            raise OutputError(
                f"where {self._ae_title} listens is not known; add --peer "
                f"{self._ae_title}@host:port"
            )
        # Films in colour and films in gray are of different meta SOP classes.
        for is_colour in (False, True):
            some = [film for film in films if (film.png[_COLOUR_TYPE] == _RGB) is is_colour]
            if some:
                await self._print(peer, job, some, is_colour)

    async def _print(
        self, peer: Peer, job: PrintJob, films: Sequence[ComposedFilm], is_colour: bool
    ) -> None:
        size, orientation = size_of(films[0])
        options = PrintOptions(
            copies=job.copies,
            priority=job.priority,
            medium=job.medium,
            destination=job.destination,
            label=job.label,
            orientation=orientation,
            film_size=size,
            magnification="BILINEAR",
        )
        try:
            async with self._connect(peer, contexts(is_colour=is_colour)) as association:
                # A small picture can be a large film: one at a time is in memory.
                for film in films:
                    page = await trio.to_thread.run_sync(partial(_page, film, is_colour=is_colour))
                    await print_films(association, [page], options)
        except (
            AssociationError,
            LocalProtocolError,
            NoPresentationContextError,
            OperationError,
        ) as error:
            raise OutputError(f"{self._ae_title}: {error}") from error


def _page(film: ComposedFilm, *, is_colour: bool) -> FilmPage:
    described, pixels = for_printer(read_raster(film.png), is_colour=is_colour)
    return FilmPage(images=[PrintImage(image=described, pixels=pixels)])


def size_of(film: ComposedFilm) -> tuple[str, str]:
    """Film Size ID and orientation that come nearest to a film."""
    width, height = (
        side / film.dots_per_inch * MILLIMETRES_PER_INCH for side in (film.width, film.height)
    )
    orientation = "PORTRAIT" if width <= height else "LANDSCAPE"
    width, height = min(width, height), max(width, height)
    found = min(
        FILM_SIZES, key=lambda name: abs(FILM_SIZES[name][0] - width)
        + abs(FILM_SIZES[name][1] - height),
    )  # fmt: skip
    return found, orientation
