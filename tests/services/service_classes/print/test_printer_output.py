"""Films printed on a DICOM printer of somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest

from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.dicom.creation.raster_pictures import read_raster
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.print import printer_output
from isocenter.services.service_classes.print.job import ComposedFilm
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.printer_output import PrinterPeer, size_of
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.services.service_classes.print.scu import print_films, take_event
from isocenter.services.service_classes.print.spooler import OutputError
from isocenter.storage.stores import open_sqlite_stores
from services.service_classes.print.samples import colours, composed, contains, decoded, pattern
from services.service_classes.print.test_spooler import a_job
from support.serving import port_of, serving


@asynccontextmanager
async def connect(peer: Peer, contexts: Sequence[Context]) -> AsyncIterator[ClientAssociation]:
    async with open_association(peer, contexts, provider=take_event) as association:
        yield association


def film(pixels: np.ndarray, dots: int = 150) -> ComposedFilm:  # type: ignore[type-arg]
    return ComposedFilm(
        png=imagecodecs.png_encode(pixels),
        width=pixels.shape[1],
        height=pixels.shape[0],
        dots_per_inch=dots,
    )


async def test_films_arrive_as_they_are_gray_and_in_colour() -> None:
    # A little smaller than the box: its edge would cost the outermost pixels.
    gray, colour = pattern(1494, 1194), colours(1194, 1494)
    async with open_sqlite_stores(":memory:") as stores:
        manager = PrintJobManager(stores.print_jobs, most=9, notices=Notices())
        async with serving(PrintScp(Printer(), manager, composed)) as server:
            peer = Peer("LASER", "127.0.0.1", port_of(server))
            job = replace(a_job(copies=2), priority="HIGH", medium="PAPER", label="Größe")
            output = PrinterPeer("LASER", {"LASER": peer}.get, connect)
            await output.put(job, [film(gray), film(colour), film(gray)])
        jobs = await stores.print_jobs.jobs(limit=9)
        assert [(one.copies, one.priority, one.medium, one.label) for one in jobs] == [
            (2, "HIGH", "PAPER", "Größe")
        ] * 3
        shown = []
        for one in reversed(jobs):
            found = await stores.print_jobs.film(one.job_uid, 1)
            assert found is not None
            shown.append(decoded(found.png))
    assert contains(shown[0], gray)
    assert contains(shown[1], gray)
    assert contains(shown[2], colour)


async def test_one_film_at_a_time_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note_read(*values: Any) -> Any:
        done.append("read")
        return read_raster(*values)

    async def note_printed(*values: Any) -> Any:
        done.append("printed")
        return await print_films(*values)

    monkeypatch.setattr(printer_output, "read_raster", note_read)
    monkeypatch.setattr(printer_output, "print_films", note_printed)
    async with open_sqlite_stores(":memory:") as stores:
        manager = PrintJobManager(stores.print_jobs, most=9, notices=Notices())
        async with serving(PrintScp(Printer(), manager, composed)) as server:
            peer = Peer("LASER", "127.0.0.1", port_of(server))
            await PrinterPeer("LASER", {"LASER": peer}.get, connect).put(
                a_job(), [film(pattern())] * 3
            )
    assert done == ["read", "printed"] * 3


async def test_a_printer_that_refuses_or_is_not_there_is_a_fault() -> None:
    with pytest.raises(OutputError, match="where LASER listens is not known; add --peer"):
        await PrinterPeer("LASER", {}.get, connect).put(a_job(), [film(pattern())])
    async with serving() as server:
        peer = Peer("LASER", "127.0.0.1", port_of(server))
        with pytest.raises(OutputError, match="LASER: "):
            await PrinterPeer("LASER", {"LASER": peer}.get, connect).put(a_job(), [film(pattern())])


@pytest.mark.parametrize(
    ("width", "height", "dots", "found"),
    [
        (1200, 1500, 150, ("8INX10IN", "PORTRAIT")),
        (1500, 1200, 150, ("8INX10IN", "LANDSCAPE")),
        (2480, 3508, 300, ("A4", "PORTRAIT")),
        (4200, 5100, 300, ("14INX17IN", "PORTRAIT")),
    ],
)
def test_a_film_has_the_nearest_size(
    width: int, height: int, dots: int, found: tuple[str, str]
) -> None:
    made = ComposedFilm(png=b"", width=width, height=height, dots_per_inch=dots)
    assert size_of(made) == found
