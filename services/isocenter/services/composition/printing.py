"""Composition of print management: the printer, its spooler, and where films go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.association.peer import Peer
from isocenter.services.cluster.duties import Duties
from isocenter.services.composition.outgoing_associations import OutgoingAssociations
from isocenter.services.composition.transcoding import pool_limits_of
from isocenter.services.concurrency import Backoff
from isocenter.services.dicom.film.composer import compose_film
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.notices import Notices
from isocenter.services.service_classes.print.captures import ArchiveCaptures
from isocenter.services.service_classes.print.job import PrintJob
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.outputs import PdfFiles, PngFiles, PrintQueue
from isocenter.services.service_classes.print.printer_output import PrinterPeer
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.services.service_classes.print.spooler import Output, Spooler, SpoolerOptions
from isocenter.services.service_classes.print.study_films import StudyFilms
from isocenter.services.settings.sections.print import PrintOutput
from isocenter.services.settings.settings import Settings
from isocenter.storage.stores import Stores


@dataclass(frozen=True, slots=True, kw_only=True)
class Printing:
    """The service, what the web offers of it, and what runs beside it."""

    scp: PrintScp
    manager: PrintJobManager
    films: StudyFilms
    background_tasks: tuple[Callable[[], Awaitable[None]], ...]


def build_printing(
    settings: Settings,
    archive: Archive,
    stores: Stores,
    duties: Duties,
    notices: Notices,
    connections: OutgoingAssociations,
    peers: Mapping[str, Peer],
) -> Printing:
    """What the settings say of the printer.

    Films are composed by processes of its own: who prints keeps nobody waiting who looks at images.
    """

    def changed(job: PrintJob) -> None:
        scp.job_changed(job)
        if job.state.is_final:
            manager.ended(job)

    spooler = Spooler(
        stores.print_jobs,
        outputs_of(settings, archive, connections, peers),
        SpoolerOptions(
            backoff=Backoff(
                longest_seconds=settings.print.longest_retry,
                give_up_after_seconds=settings.print.give_up_after,
            ),
            keep_seconds=settings.print.keep_days * 86_400.0,
        ),
        on_change=changed,
        now=stores.clock,
    )
    manager = PrintJobManager(
        stores.print_jobs,
        most=settings.print.max_jobs,
        notices=notices,
        wake=spooler.wake,
        check_room=archive.room.check_disk,
    )
    printer = settings.print.described(has_annotations=find_spec("PIL") is not None)
    composing = CodecPool(replace(pool_limits_of(settings), workers=settings.print.workers))
    limits = replace(settings.print.limits(), film_bytes=composing.limits.frame_bytes)
    scp = PrintScp(printer, manager, partial(compose_film, composing), limits=limits)
    tasks: list[Callable[[], Awaitable[None]]] = [
        scp.run,
        partial(duties.run, "printing", spooler.run),
        partial(_keep, composing),
    ]
    return Printing(
        scp=scp,
        manager=manager,
        films=StudyFilms(archive, composing, printer, film_pixels=settings.print.max_film_pixels),
        background_tasks=tuple(tasks),
    )


async def _keep(pool: CodecPool) -> None:
    """Have the processes of a pool end with the server."""
    async with pool:
        await trio.sleep_forever()


def outputs_of(
    settings: Settings,
    archive: Archive,
    connections: OutgoingAssociations,
    peers: Mapping[str, Peer],
) -> dict[str, Output]:
    """Where films go, by name."""
    folder = settings.print.directory or Path(settings.storage.data_dir) / "prints"
    made: dict[PrintOutput, Callable[[], Output]] = {
        PrintOutput.PDF: lambda: PdfFiles(folder),
        PrintOutput.PNG: lambda: PngFiles(folder),
        PrintOutput.ARCHIVE: lambda: ArchiveCaptures(archive, settings.server.ae_title),
        PrintOutput.PRINTER: lambda: PrinterPeer(
            settings.print.printer, peers.get, connections.for_printing
        ),
        PrintOutput.QUEUE: lambda: PrintQueue(settings.print.queue),
    }
    return {each.value: made[each]() for each in settings.print.outputs}
