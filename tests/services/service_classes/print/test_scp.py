"""Print management as SCP: films, their boxes, jobs, and a status for each thing done wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.film.film import Film
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.notices import Notices
from isocenter.services.security.access.grants import PolicyGrant, Rights
from isocenter.services.security.access.permissions import parse_permission
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.normalized.operations import n_create
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.scope import PrintLimits
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.services.testing.associations import associated
from isocenter.storage.stores import open_sqlite_stores
from services.service_classes.print.samples import (
    BOX,
    CONTEXTS,
    LUT,
    SESSION,
    PrinterCaller,
    colour_item,
    colours,
    composed,
    contains,
    dataset,
    decoded,
    gray_item,
    pattern,
    printing,
    reference,
)
from support.serving import port_of, serving

COLOUR = (tags.COLOR_META, *CONTEXTS[1:])


async def film_of(caller: PrinterCaller, number: int = 1) -> np.ndarray[Any, Any]:
    """The film of the job that the last response names."""
    film = await caller.stores.print_jobs.film(caller.job, number)
    assert film is not None
    return decoded(film.png)


async def test_a_film_shows_the_images_that_went_in() -> None:
    first, second = pattern(1200, 800), pattern(600, 600, 12)
    async with printing() as caller:
        assert await caller.session(NumberOfCopies=2, FilmSessionLabel="two") == 0
        layout = {"ImageDisplayFormat": "STANDARD\\1,2", "MagnificationType": "NONE"}
        assert await caller.box(FilmSizeID="14INX17IN", **layout) == 0
        assert await caller.image(1, gray_item(first)) == 0
        assert await caller.image(2, gray_item(second, 12)) == 0
        assert await caller.print() == 0
        film = await film_of(caller)
        job = await caller.stores.print_jobs.get(caller.job)
        assert job is not None
        assert (job.films, job.copies, job.label, job.priority) == (1, 2, "two", "MED")
        assert film.shape == (2550, 2100)
        assert contains(film[:1275], first)
        assert contains(film[1275:], np.floor(second / 4095 * 255 + 0.5).astype(np.uint8))


async def test_a_film_in_colour_shows_the_image_that_went_in() -> None:
    shown = colours(300, 200)
    async with printing(contexts=COLOUR) as caller:
        assert await caller.session() == 0
        assert await caller.box(MagnificationType="NONE") == 0
        assert await caller.image(1, colour_item(shown)) == 0
        assert await caller.print() == 0
        assert contains(await film_of(caller), shown)


async def test_a_session_is_printed_as_one_job_of_all_its_films() -> None:
    async with printing() as caller:
        await caller.session(PrintPriority="HIGH")
        for number in range(3):
            await caller.box(f"{BOX}.{number}")
            await caller.image()
        assert await caller.print(tags.FILM_SESSION, SESSION) == 0
        job = await caller.stores.print_jobs.get(caller.job)
        assert job is not None
        assert (job.films, job.priority) == (3, "HIGH")


async def test_a_job_is_named_only_to_whom_jobs_were_offered() -> None:
    async with printing(contexts=CONTEXTS[:1]) as caller:
        await caller.session()
        await caller.box()
        await caller.image()
        assert await caller.print() == 0
        assert caller.last.attributes is None


@pytest.mark.parametrize(
    ("calling", "permissions", "status"),
    [
        ("PRINTSCU", None, 0x0000),
        ("OTHER", None, 0x0112),
        ("OTHER", "study:read", 0x0112),
        ("OTHER", "study:read+export", 0x0000),
        ("PRINTSCU", "study:read", 0x0000),
    ],
)
async def test_a_job_is_told_to_who_made_it_or_may_by_policy(
    calling: str, permissions: str | None, status: int
) -> None:
    async with printing(calling_ae_title="PRINTSCU") as first:
        await first.session()
        await first.box()
        await first.image()
        assert await first.print() == 0
        rights = None
        if permissions is not None:
            rights = Rights(ae_title=calling, permissions=parse_permission(permissions))
        proposed = [(tags.PRINT_JOB, (EXPLICIT_VR_LITTLE_ENDIAN,))]
        async with associated(
            [first.scp], proposed, calling_ae_title=calling, grant=PolicyGrant(lambda: rights)
        ) as association:
            other = PrinterCaller(association, first.scp, first.stores, tags.PRINT_JOB)
            assert await other.get(tags.PRINT_JOB, first.job) == status


async def test_a_job_can_be_asked_about() -> None:
    async with printing() as caller:
        await caller.session(PrintPriority="LOW")
        await caller.box()
        await caller.image()
        await caller.print()
        assert await caller.get(tags.PRINT_JOB, caller.job, context=tags.PRINT_JOB) == 0
        assert caller.last.attributes is not None
        told = caller.last.attributes.to_dataset()
        assert told.ExecutionStatus == "PENDING"
        assert told.PrintPriority == "LOW"
        assert told.PrinterName == "ISOCENTER"


async def test_the_printer_says_what_it_can() -> None:
    async with printing(printer=Printer(name="FILMS", dots_per_inch=100)) as caller:
        assert await caller.get(tags.PRINTER, tags.PRINTER_INSTANCE) == 0
        assert caller.last.attributes is not None
        told = caller.last.attributes.to_dataset()
        assert (told.PrinterStatus, told.PrinterStatusInfo) == ("NORMAL", "NORMAL")
        assert told.PrinterName == "FILMS"
        assert (
            await caller.get(
                tags.PRINTER_CONFIGURATION,
                tags.PRINTER_CONFIGURATION_INSTANCE,
                context=tags.PRINTER_CONFIGURATION,
            )
            == 0
        )
        told = caller.last.attributes.to_dataset()
        gray, colour = told.PrinterConfigurationSequence
        assert gray.SOPClassesSupported[0] == tags.GRAYSCALE_META
        assert colour.SOPClassesSupported[0] == tags.COLOR_META
        assert gray.MediaInstalledSequence[0].FilmSizeID == "8INX10IN"
        largest = gray.SupportedImageDisplayFormatsSequence[0]
        assert (largest.Columns, largest.Rows) == (796, 996)


async def test_a_printer_that_cannot_warns() -> None:
    async with printing() as caller:
        await caller.session()
        await caller.box()
        await caller.image()
        await caller.print()
        jobs = caller.stores.print_jobs
        job = await jobs.claim("w", 60)
        assert job is not None
        await jobs.again(job, "no paper", 60)
        await caller.get(tags.PRINTER, tags.PRINTER_INSTANCE)
        assert caller.last.attributes is not None
        assert caller.last.attributes.to_dataset().PrinterStatus == "WARNING"


@pytest.mark.parametrize(
    ("polarity", "photometric", "inverse"),
    [
        ("NORMAL", "MONOCHROME2", False),
        ("REVERSE", "MONOCHROME2", True),
        ("NORMAL", "MONOCHROME1", True),
        ("REVERSE", "MONOCHROME1", False),
    ],
)
async def test_polarity_and_photometry_turn_an_image_around(
    polarity: str, photometric: str, inverse: bool
) -> None:
    shown = pattern(200, 300)
    async with printing() as caller:
        await caller.session()
        await caller.box(MagnificationType="NONE", BorderDensity="BLACK")
        item = gray_item(shown, PhotometricInterpretation=photometric)
        assert await caller.image(1, item, Polarity=polarity) == 0
        await caller.print()
        assert contains(await film_of(caller), 255 - shown if inverse else shown)


async def test_a_table_is_applied_to_the_values_that_come() -> None:
    shown = pattern(200, 300)
    table = (65535 - np.arange(256) * 257).astype("<u2")
    item = dataset(LUTDescriptor=[256, 0, 16], LUTData=table.tobytes())
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    async with printing() as caller:
        assert await caller.lut(PresentationLUTSequence=[item]) == 0
        await caller.session()
        named = [reference(tags.PRESENTATION_LUT, LUT)]
        await caller.box(MagnificationType="NONE", ReferencedPresentationLUTSequence=named)
        await caller.image(1, gray_item(shown))
        await caller.print()
        assert contains(await film_of(caller), 255 - shown)


async def test_annotations_have_room_where_they_were_asked_for() -> None:
    pytest.importorskip("PIL")
    async with printing() as caller:
        await caller.session()
        await caller.box(AnnotationDisplayFormatID="ANNOTATION")
        assert len(caller.notes) == 6
        assert await caller.set(
            tags.ANNOTATION_BOX, caller.notes[0], tags.ANNOTATION_BOX,
            AnnotationPosition=4, TextString="Film 1",
        ) == 0  # fmt: skip
        await caller.image(1, gray_item(np.zeros((8, 8), np.uint8)))
        await caller.print()
        film = await film_of(caller)
        assert film[-41:, :400].any()
        assert not film[:41].any()


async def test_what_is_deleted_is_gone() -> None:
    async with printing() as caller:
        await caller.session()
        await caller.box()
        assert await caller.delete(tags.FILM_BOX, BOX) == 0
        assert await caller.image() == 0x0112
        assert await caller.print() == 0x0112
        assert await caller.delete(tags.FILM_SESSION, SESSION) == 0
        assert await caller.set(tags.FILM_SESSION, SESSION) == 0x0112
        assert await caller.session() == 0
        assert await caller.lut(PresentationLUTShape="LIN OD") == 0
        assert await caller.delete(tags.PRESENTATION_LUT, LUT, tags.PRESENTATION_LUT) == 0
        assert await caller.delete(tags.PRESENTATION_LUT, LUT, tags.PRESENTATION_LUT) == 0x0112


async def test_an_image_can_be_exchanged_and_taken_away() -> None:
    limits = PrintLimits(memory_bytes=2_600)
    async with printing(limits=limits) as caller:
        await caller.session()
        await caller.box()
        for _ in range(5):
            assert await caller.image() == 0
        assert caller.scp._memory.taken == 1024
        assert await caller.image(BasicGrayscaleImageSequence=[]) == 0
        assert caller.scp._memory.taken == 0
        assert await caller.print() == 0xB603


async def test_sessions_are_of_one_association_and_gone_with_it() -> None:
    async with open_sqlite_stores(":memory:") as stores:
        manager = PrintJobManager(stores.print_jobs, most=9, notices=Notices())
        scp = PrintScp(Printer(), manager, composed)
        contexts = [(tags.GRAYSCALE_META, (EXPLICIT_VR_LITTLE_ENDIAN,))]
        async with serving(scp) as server, trio.open_nursery() as nursery:
            nursery.start_soon(scp.run)
            peer = Peer("PRINTER", "127.0.0.1", port_of(server))
            async with open_association(peer, contexts) as one:
                caller = PrinterCaller(one, scp, stores)
                assert await caller.session() == 0
                assert await caller.box() == 0
                assert await caller.image() == 0
                async with open_association(peer, contexts) as other:
                    stranger = PrinterCaller(other, scp, stores)
                    assert await stranger.print() == 0x0112
                    assert await stranger.delete(tags.FILM_SESSION, SESSION) == 0x0112
                assert scp._memory.taken == 1024
            with trio.fail_after(60):
                while scp._scopes:
                    await trio.testing.wait_all_tasks_blocked()
            assert scp._memory.taken == 0
            nursery.cancel_scope.cancel()


Ask = Callable[[PrinterCaller], Awaitable[int]]


async def _with_box(caller: PrinterCaller, **values: Any) -> None:
    await caller.session()
    await caller.box(**values)


def _image(item: Dataset | None = None, **values: Any) -> Ask:
    async def ask(caller: PrinterCaller) -> int:
        await _with_box(caller)
        return await caller.image(1, item, **values)

    return ask


def _box(**values: Any) -> Ask:
    async def ask(caller: PrinterCaller) -> int:
        await caller.session()
        return await caller.box(**values)

    return ask


def _boxes(**values: Any) -> Ask:
    """A film box is created, then set."""

    async def ask(caller: PrinterCaller) -> int:
        await _with_box(caller)
        return await caller.set(tags.FILM_BOX, BOX, **values)

    return ask


def _lut(**values: Any) -> Ask:
    return lambda caller: caller.lut(**values)


def _fitted(**values: Any) -> Ask:
    """An image larger than the film."""

    async def ask(caller: PrinterCaller) -> int:
        await _with_box(caller, MagnificationType="NONE")
        return await caller.image(1, gray_item(np.zeros((800, 1250), np.uint8)), **values)

    return ask


def _table(**changes: Any) -> Dataset:
    item = dataset(**{"LUTDescriptor": [256, 0, 16], "LUTData": bytes(512), **changes})
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


async def _second_session(caller: PrinterCaller) -> int:
    await caller.session()
    return await caller.session("1.2.3")


async def _same_box(caller: PrinterCaller) -> int:
    await _with_box(caller)
    return await caller.box()


async def _same_lut(caller: PrinterCaller) -> int:
    await caller.lut(PresentationLUTShape="IDENTITY")
    return await caller.lut(PresentationLUTShape="IDENTITY")


async def _wrong_note(caller: PrinterCaller, position: int | None = 7) -> int:
    pytest.importorskip("PIL")
    await _with_box(caller, AnnotationDisplayFormatID="1")
    values = {} if position is None else {"AnnotationPosition": position}
    return await caller.set(tags.ANNOTATION_BOX, caller.notes[0], tags.ANNOTATION_BOX, **values)


async def _print_empty_session(caller: PrinterCaller) -> int:
    await _with_box(caller)
    return await caller.print(tags.FILM_SESSION, SESSION)


async def _print_without_films(caller: PrinterCaller) -> int:
    await caller.session()
    return await caller.print(tags.FILM_SESSION, SESSION)


async def _print_otherwise(caller: PrinterCaller) -> int:
    await _with_box(caller)
    return await caller.print(action=2)


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        pytest.param(status, ask, id=name)
        for name, status, ask in [
            ("copies", 0x0106, lambda caller: caller.session(NumberOfCopies=0)),
            ("many copies", 0x0106, lambda caller: caller.session(NumberOfCopies=1000)),
            ("priority", 0x0106, lambda caller: caller.session(PrintPriority="SOON")),
            ("memory", 0xB600, lambda caller: caller.session(MemoryAllocation=100)),
            ("session UID", 0x0117, lambda caller: caller.session("1..2")),
            ("second session", 0x0111, _second_session),
            ("film without session", 0x0106, lambda caller: caller.box()),
            ("film of no session", 0x0120, _box(session="")),
            ("film of another session", 0x0106, _box(session="1.2.3")),
            ("same film", 0x0111, _same_box),
            ("no format", 0x0121, _box(ImageDisplayFormat="")),
            ("slides", 0x0106, _box(ImageDisplayFormat="SLIDE")),
            ("custom", 0x0106, _box(ImageDisplayFormat="CUSTOM\\1")),
            ("format without box", 0x0106, _box(ImageDisplayFormat="STANDARD\\0,1")),
            ("too many boxes", 0x0106, _box(ImageDisplayFormat="STANDARD\\100,100")),
            ("size", 0x0106, _box(FilmSizeID="POSTCARD")),
            ("orientation", 0x0106, _box(FilmOrientation="ACROSS")),
            ("magnification", 0x0106, _box(MagnificationType="ZOOM")),
            ("trim", 0x0106, _box(Trim="MAYBE")),
            ("border", 0x0106, _box(BorderDensity="GREEN")),
            ("empty density", 0x0106, _box(EmptyImageDensity="DARK")),
            ("resolution", 0x0106, _box(RequestedResolutionID="ULTRA")),
            ("max density", 0xB605, _box(MaxDensity=999)),
            (
                "lookup table of nobody",
                0x0106,
                _box(ReferencedPresentationLUTSequence=[reference(tags.PRESENTATION_LUT, "1.2")]),
            ),
            ("set format", 0x0105, _boxes(ImageDisplayFormat="STANDARD\\2,2")),
            ("set the same format", 0x0000, _boxes(ImageDisplayFormat="STANDARD\\1,1")),
            ("set trim", 0x0000, _boxes(Trim="YES")),
            ("set min density", 0xB605, _boxes(MinDensity=1)),
            ("no shape and no table", 0x0120, _lut()),
            ("shape", 0x0106, _lut(PresentationLUTShape="INVERSE")),
            (
                "shape and table",
                0x0106,
                _lut(PresentationLUTShape="IDENTITY", PresentationLUTSequence=[_table()]),
            ),
            ("two tables", 0x0106, _lut(PresentationLUTSequence=[_table(), _table()])),
            ("short table", 0x0106, _lut(PresentationLUTSequence=[_table(LUTData=bytes(510))])),
            ("bits", 0x0106, _lut(PresentationLUTSequence=[_table(LUTDescriptor=[256, 0, 2])])),
            ("descriptor", 0x0106, _lut(PresentationLUTSequence=[_table(LUTDescriptor=[256])])),
            ("same lookup table", 0x0111, _same_lut),
            ("position", 0x0106, _image(ImageBoxPosition=2)),
            ("polarity", 0x0106, _image(Polarity="SIDEWAYS")),
            ("behaviour", 0x0106, _image(RequestedDecimateCropBehavior="FOLD")),
            ("width", 0x0106, _image(RequestedImageSize="-1")),
            ("two images", 0x0106, _image(BasicGrayscaleImageSequence=[gray_item()] * 2)),
            ("no rows", 0x0120, _image(gray_item(Rows=None))),
            ("no pixels", 0x0120, _image(gray_item(PixelData=None))),
            ("empty pixels", 0x0121, _image(gray_item(PixelData=b""))),
            ("short pixels", 0x0106, _image(gray_item(Rows=33))),
            ("colour on a grey film", 0x0106, _image(colour_item())),
            ("palette", 0x0106, _image(gray_item(PhotometricInterpretation="PALETTE COLOR"))),
            ("signed", 0x0106, _image(gray_item(PixelRepresentation=1))),
            ("bits allocated", 0x0106, _image(gray_item(BitsAllocated=32))),
            ("bits stored", 0x0106, _image(gray_item(BitsStored=9))),
            ("no height", 0x0106, _image(gray_item(Rows=0))),
            ("demagnified", 0xB604, _fitted()),
            ("decimated", 0xB60A, _fitted(RequestedDecimateCropBehavior="DECIMATE")),
            ("cropped", 0xB609, _fitted(RequestedDecimateCropBehavior="CROP")),
            ("failed", 0xC603, _fitted(RequestedDecimateCropBehavior="FAIL")),
            (
                "enlarged beyond any film",
                0xC603,
                _image(RequestedImageSize="1000", RequestedDecimateCropBehavior="FAIL"),
            ),
            ("image density", 0xB605, _image(MaxDensity=999)),
            ("note at another position", 0x0106, _wrong_note),
            ("note without position", 0x0120, lambda caller: _wrong_note(caller, None)),
            ("note that is none", 0x0112, lambda caller: caller.set(
                tags.ANNOTATION_BOX, "1.2.3", tags.ANNOTATION_BOX, AnnotationPosition=1)),
            ("empty session", 0xB602, _print_empty_session),
            ("session without films", 0xC600, _print_without_films),
            ("other action", 0x0123, _print_otherwise),
            ("printing a printer", 0x0211, lambda caller: caller.print(tags.PRINTER)),
            ("creating a printer", 0x0211, lambda caller: caller.create(tags.PRINTER, "1.2.3")),
            ("setting a printer", 0x0211, lambda caller: caller.set(tags.PRINTER, "1.2.3")),
            ("deleting a printer", 0x0211, lambda caller: caller.delete(tags.PRINTER, "1.2.3")),
            ("getting a film", 0x0211, lambda caller: caller.get(tags.FILM_BOX, BOX)),
            ("other printer", 0x0112, lambda caller: caller.get(tags.PRINTER, "1.2.3")),
            ("other job", 0x0112, lambda caller: caller.get(
                tags.PRINT_JOB, "1.2.3", context=tags.PRINT_JOB)),
            ("unknown attribute", 0x0107, lambda caller: caller.get(
                tags.PRINTER, tags.PRINTER_INSTANCE, [tags.PRINTER_NAME, 0x00100010])),
        ]
    ],
)  # fmt: skip
async def test_each_thing_done_wrong_has_its_status(status: int, ask: Ask) -> None:
    async with printing() as caller:
        assert await ask(caller) == status
        # What was refused has changed nothing that would be in the way.
        assert await caller.get(tags.PRINTER, tags.PRINTER_INSTANCE) == 0


async def test_a_refusal_names_the_attribute() -> None:
    async with printing() as caller:
        await caller.session()
        assert await caller.box(FilmSizeID="POSTCARD") == 0x0106
        assert caller.last.attribute_identifiers == (tags.FILM_SIZE,)
        assert "8INX10IN" in caller.last.comment


async def test_bounds_hold() -> None:
    limits = PrintLimits(films=1, luts=1, image_bytes=3_000, memory_bytes=4_000, film_pixels=2**21)
    async with printing(limits=limits, most_jobs=1) as caller:
        await caller.session()
        assert await caller.box(FilmSizeID="14INX17IN") == 0x0213
        assert await caller.box() == 0
        boxes = caller.boxes
        assert await caller.box("1.2.3") == 0x0213
        caller.boxes = boxes
        assert await caller.lut(PresentationLUTShape="IDENTITY") == 0
        assert await caller.lut("1.2.3", PresentationLUTShape="IDENTITY") == 0x0213
        await caller.image()
        assert await caller.image(1, gray_item(pattern(60, 60))) == 0xC605
        assert caller.scp._memory.taken == 1024
        assert await caller.print() == 0x0213, "its film would take more memory"
        caller.scp._memory.limit = 10_000_000
        assert await caller.print() == 0
        assert await caller.print() == 0xC602
        assert await caller.print(tags.FILM_SESSION, SESSION) == 0xC601
        await caller.get(tags.PRINTER, tags.PRINTER_INSTANCE)
        assert caller.last.attributes is not None
        assert caller.last.attributes.to_dataset().PrinterStatus == "FAILURE"


async def test_a_film_that_cannot_be_composed_is_not_printed() -> None:
    async def fail(film: Film) -> bytes:
        raise ImageError("it cannot be decoded")

    async with printing(compose=fail) as caller:
        await caller.session()
        await caller.box()
        await caller.image()
        assert await caller.print() == 0x0110
        assert not await caller.stores.print_jobs.jobs(limit=10)


async def test_a_session_without_attributes_has_those_of_the_printer() -> None:
    async with printing() as caller:
        answer = await n_create(
            caller.association, tags.FILM_SESSION, "", None, context=tags.GRAYSCALE_META
        )
        assert answer.sop_instance_uid.startswith("2.25.")
        assert answer.attributes is not None
        assert answer.attributes.to_dataset().PrintPriority == "MED"


@pytest.mark.parametrize("is_colour", [False, True])
async def test_sop_classes_may_be_negotiated_one_by_one(is_colour: bool) -> None:
    box = tags.COLOR_IMAGE_BOX if is_colour else tags.GRAYSCALE_IMAGE_BOX
    shown = colours(300, 200) if is_colour else pattern(300, 200)
    contexts = (tags.FILM_SESSION, tags.FILM_BOX, box, tags.PRINTER, tags.PRINT_JOB)
    async with printing(contexts=contexts) as caller:
        assert await caller.get(tags.PRINTER, tags.PRINTER_INSTANCE, context=tags.PRINTER) == 0
        assert await caller.session() == 0
        caller.meta = tags.FILM_BOX
        assert await caller.box(MagnificationType="NONE") == 0
        assert caller.last.attributes is not None
        (named,) = caller.last.attributes.to_dataset().ReferencedImageBoxSequence
        assert named.ReferencedSOPClassUID == box
        caller.meta = box
        item = colour_item(shown) if is_colour else gray_item(shown)
        name = "BasicColorImageSequence" if is_colour else "BasicGrayscaleImageSequence"
        told = {"ImageBoxPosition": 1, name: [item]}
        assert await caller.set(box, caller.boxes[0], box, **told) == 0
        caller.meta = tags.FILM_BOX
        assert await caller.print() == 0
        assert contains(await film_of(caller), shown)
