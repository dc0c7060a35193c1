"""Films of a study of the archive: its images in order, and a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.concurrency import open_plain_nursery
from isocenter.services.dicom.film.composer import compose_film
from isocenter.services.dicom.film.density import DensityRange
from isocenter.services.dicom.film.display_format import DisplayFormat
from isocenter.services.dicom.film.film import Film, FilmImage
from isocenter.services.dicom.film.pictures import for_printer, rendered_picture
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.uids import new_uid
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.services.service_classes.print.printer import Printer

#: Images of one job: so many somebody waits for.
MOST_IMAGES: Final = 120
_RENDERED_AT_ONCE: Final = 4
_KEYS: Final = tuple(
    BY_KEYWORD[keyword].tag
    for keyword in ("SeriesNumber", "SeriesInstanceUID", "InstanceNumber", "SOPInstanceUID", "Rows")
)
_STUDY: Final = BY_KEYWORD["StudyInstanceUID"].tag
_SERIES: Final = BY_KEYWORD["SeriesInstanceUID"].tag


class StudyPrintError(IsocenterError):
    """A study that cannot be printed; the message says why, and what can be done."""

    error_code = ErrorCode.PRINT_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilmOptions:
    """How a study is printed.

    Attributes:
        series: only the images of this one; empty: of all.
        size: Film Size ID; empty: that of the printer.
        is_colour: images in colour are printed so.
    """

    study_instance_uid: str
    series_instance_uid: str = ""
    display_format: DisplayFormat
    size: str = ""
    is_landscape: bool = False
    is_colour: bool = False
    copies: int = 1
    priority: str = "MED"


class StudyFilms:
    """Makes print jobs of studies.

    Args:
        pool: renders and composes.
    """

    def __init__(
        self, archive: Archive, pool: CodecPool, printer: Printer, *, film_pixels: int
    ) -> None:
        self._archive = archive
        self._pool = pool
        self._printer = printer
        self._film_pixels = film_pixels
        self._rendering = trio.CapacityLimiter(_RENDERED_AT_ONCE)

    async def job(self, options: StudyFilmOptions, originator: str) -> NewPrintJob:
        """The job of a study: the first frame of each of its images, as the images say themselves.

        Raises:
            StudyPrintError: there is no image, or there are too many, or one cannot be shown.
            StorageError: the index or the store fails.
        """
        film = Film(
            display_format=options.display_format,
            size=options.size or self._printer.size,
            is_landscape=options.is_landscape,
            dots_per_inch=self._printer.dots_per_inch,
            densities=DensityRange(lowest=self._printer.lowest, highest=self._printer.highest),
        )
        width, height = film.pixel_size
        if width * height > self._film_pixels:
            raise StudyPrintError("such a film has too many pixels; choose a smaller size")
        stored = await self._images(options)
        room = len(options.display_format.boxes)
        waiting: list[FilmImage] = []
        films: list[ComposedFilm] = []
        # Rendered, a small object can be a large picture: those of a film or two are in memory.
        for start in range(0, len(stored), room):
            waiting += await self._rendered(stored[start : start + room], options.is_colour)
            is_last = start + room >= len(stored)
            while len(waiting) >= room or (is_last and waiting):
                films.append(await self._composed(replace(film, images=tuple(waiting[:room]))))
                waiting = waiting[room:]
        if not films:
            raise StudyPrintError("none of its images can be shown")
        return NewPrintJob(
            job_uid=new_uid(),
            originator=originator,
            films=tuple(films),
            copies=options.copies,
            priority=options.priority,
            study_instance_uid=options.study_instance_uid,
        )

    async def _images(self, options: StudyFilmOptions) -> Sequence[StoredInstance]:
        """Its images, by the numbers of their series and their own."""
        criteria = [Criterion(_STUDY, SingleValue(options.study_instance_uid))]
        if options.series_instance_uid:
            criteria.append(Criterion(_SERIES, SingleValue(options.series_instance_uid)))
        query = Query(level=Level.IMAGE, criteria=tuple(criteria), return_tags=_KEYS)
        order: dict[str, tuple[object, ...]] = {}
        async with self._archive.index.find(query) as blocks:
            async for block in blocks:
                for match in block:
                    number, series, instance, uid, rows = (match.get(tag, "") for tag in _KEYS)
                    if rows not in ("", "0"):
                        order[uid] = (_number(number), series, _number(instance), uid)
                if len(order) > MOST_IMAGES:
                    raise StudyPrintError(
                        f"it has more than {MOST_IMAGES} images; print its series one by one, or "
                        "fewer images"
                    )
        if not order:
            raise StudyPrintError("there is no image in it")
        found: dict[str, StoredInstance] = {}
        async with self._archive.index.instances(query) as stored_blocks:
            async for stored_block in stored_blocks:
                found |= {each.sop_instance_uid: each for each in stored_block}
        return [found[uid] for uid in sorted(order, key=lambda uid: order[uid]) if uid in found]

    async def _rendered(self, some: Sequence[StoredInstance], is_colour: bool) -> list[FilmImage]:
        """The images of these that can be shown, in their order."""
        shown: list[FilmImage | None] = [None] * len(some)
        async with open_plain_nursery() as nursery:
            for place, stored in enumerate(some):
                nursery.start_soon(self._render, shown, place, stored, is_colour)
        if self._is_too_much(shown):
            raise StudyPrintError(
                "its images are too large for one film; have fewer of them on a film"
            )
        return [each for each in shown if each is not None]

    def _is_too_much(self, shown: Sequence[FilmImage | None]) -> bool:
        """Whether no film could be composed of these."""
        size = sum(len(each.data) for each in shown if each is not None)
        return size > self._pool.limits.frame_bytes

    async def _composed(self, film: Film) -> ComposedFilm:
        try:
            png = await compose_film(self._pool, film)
        except PixelError as error:
            raise StudyPrintError(f"a film cannot be composed: {error}") from error
        width, height = film.pixel_size
        return ComposedFilm(png=png, width=width, height=height, dots_per_inch=film.dots_per_inch)

    async def _render(
        self,
        shown: list[FilmImage | None],
        place: int,
        stored: StoredInstance,
        is_colour: bool,
    ) -> None:
        """Put the image at its place; what cannot be shown is left out."""
        async with self._rendering:
            if self._is_too_much(shown):
                return  # it is refused
            try:
                item = stored_object(stored, self._archive.open)
                picture = await rendered_picture(item, self._pool)
            except (PixelError, DataSetError, KeyError):
                return
        wants_colour = is_colour and picture.image.samples_per_pixel > 1
        described, pixels = await trio.to_thread.run_sync(
            partial(for_printer, picture, is_colour=wants_colour)
        )
        shown[place] = FilmImage(image=described, data=pixels)


def _number(text: str) -> tuple[bool, int]:
    """What has no number comes last."""
    is_number = text.lstrip("-").isdigit()
    return not is_number, int(text) if is_number else 0
