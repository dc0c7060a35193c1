"""What strangers send to a printer: nothing of it is a fault of ours, and nothing stays."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Final

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.engine.dataset import EXPLICIT_LITTLE, Element, write_data_set
from isocenter.engine.dimse.message_codec import NCreateRequest, NSetRequest
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import Film
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.film_session import (
    BOX_RULES,
    SESSION_RULES,
    created,
)
from isocenter.services.service_classes.print.images import image_of, lut_of, with_request
from isocenter.services.service_classes.print.scope import PrintLimits
from services.service_classes.print.samples import BOX, SESSION, PrinterCaller, printing

SECONDS: Final = 120
_TAGS: Final = sorted(
    {value for name, value in vars(tags).items() if name.isupper() and isinstance(value, int)}
    | {0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102,
       0x00280103, 0x00280006, 0x00280008, 0x7FE00010}
)  # fmt: skip
_VALUES: Final = st.binary(max_size=40) | st.sampled_from(
    [b"\1\0", b"\0\0", b"\xff\xff", b"8\0", b"STANDARD\\1,1", b"STANDARD\\99,1", b"MONOCHROME2",
     b"RGB", b"IDENTITY", b"LIN OD", b"1\\1", b"0\\0", b"1e400", b"nan", b"-1", b"YES"]
)  # fmt: skip


def _elements(children: Any) -> Any:
    plain = st.tuples(
        st.sampled_from(_TAGS), st.sampled_from(["CS", "US", "IS", "OW", "UI", "LO", "DS"]), _VALUES
    )
    nested = st.tuples(
        st.sampled_from(_TAGS), st.just("SQ"), st.lists(children, max_size=3).map(tuple)
    )
    return st.lists(plain | nested, max_size=12).map(
        lambda found: {tag: Element(tag, vr, value) for tag, vr, value in sorted(found, key=_tag)}
    )


def _tag(found: tuple[Any, ...]) -> int:
    tag: int = found[0]
    return tag


LISTS: Final = st.recursive(st.just({}), _elements, max_leaves=6)


@given(LISTS)
@settings(max_examples=150, deadline=None)
def test_any_attribute_list_is_taken_or_refused(elements: Any) -> None:
    given_list = AttributeList(elements)
    for judge in (
        lambda: created(SESSION_RULES, given_list),
        lambda: created(BOX_RULES, given_list),
        lambda: lut_of(given_list),
        lambda: image_of(given_list, tags.GRAYSCALE_IMAGES),
        lambda: image_of(given_list, tags.COLOR_IMAGES),
    ):
        with contextlib.suppress(OperationError):
            found = judge()
            if hasattr(found, "data"):
                with_request(found, given_list)


@given(st.text(max_size=30) | st.from_regex(r"(STANDARD|ROW|COL)\\[0-9,]{0,12}", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_layout_of_few_boxes_or_none(text: str) -> None:
    try:
        found = DisplayFormat.parse(text)
    except DisplayFormatError:
        return
    assert 1 <= len(found.boxes) <= 100
    assert sum(box.width * box.height for box in found.boxes) == pytest.approx(1)


def image_data(rows: int, columns: int, pixels: int) -> bytes:
    """An N-SET whose image has other pixels than it says."""

    def number(value: int) -> bytes:
        return value.to_bytes(2, "little")

    item = [
        (0x00280002, "US", number(1)), (0x00280004, "CS", b"MONOCHROME2 "),
        (0x00280010, "US", number(rows)), (0x00280011, "US", number(columns)),
        (0x00280100, "US", number(16)), (0x00280101, "US", number(12)),
        (0x00280102, "US", number(11)), (0x00280103, "US", number(0)),
        (0x7FE00010, "OW", bytes(pixels)),
    ]  # fmt: skip
    return write_data_set(
        [(0x20200010, "US", number(1)), (0x20200110, "SQ", [item])], EXPLICIT_LITTLE
    )


async def _status(caller: PrinterCaller, request: Any, data: bytes) -> int:
    driver = caller.association._driver
    context = caller.association.contexts[0]
    invocation = await driver.begin(context.context_id, request, data)
    try:
        status: int = (await invocation.next()).message.status
        return status
    finally:
        driver.finish(invocation)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (image_data(65_535, 65_535, 64), 0x0106),
        (image_data(30_000, 30_000, 64), 0x0106),
        (image_data(1, 1, 0), 0x0121),
        (image_data(16, 16, 60_000)[:400], 0x0110),
        (image_data(16, 16, 60_000), 0xC605),
        (b"\xff" * 64, 0x0110),
        (b"\x20\x20\x10\x01SQ\0\0" + b"\xfe\xff\xff\xff", 0x0110),
        (b"".join(b"\x28\0\x10\0US\2\0\1\0" for _ in range(3)), 0x0120),
    ],
)
async def test_images_that_are_none_cost_nothing(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    limits = PrintLimits(image_bytes=50_000, memory_bytes=60_000)
    async with printing(limits=limits) as caller:
        await caller.session()
        await caller.box()
        request = NSetRequest(
            message_id=caller.association.next_message_id(),
            requested_sop_class_uid=tags.GRAYSCALE_IMAGE_BOX,
            requested_sop_instance_uid=caller.boxes[0],
        )
        with trio.fail_after(SECONDS):
            assert await _status(caller, request, data) == status
        assert caller.scp._memory.taken == 0
        assert await caller.image() == 0
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


async def test_lists_over_a_limit_are_refused() -> None:
    async with printing() as caller:
        request = NCreateRequest(
            message_id=caller.association.next_message_id(),
            affected_sop_class_uid=tags.FILM_SESSION,
            affected_sop_instance_uid=SESSION,
        )
        long = write_data_set([(0x7FE00010, "OB", bytes(2 << 20))], EXPLICIT_LITTLE)
        assert await _status(caller, request, long) == 0x0213
        assert await caller.session() == 0


@pytest.mark.parametrize("said", [b"00000009999", b"1" * 4000, b"0", b"\xc2\xb2"])
async def test_copies_are_few_however_they_are_written(said: bytes) -> None:
    elements = {tags.NUMBER_OF_COPIES: Element(tags.NUMBER_OF_COPIES, "IS", said)}
    with pytest.raises(OperationError, match="has to be 1 to 99"):
        created(SESSION_RULES, AttributeList(elements))


@pytest.mark.parametrize("said", ["²", "9" * 4000, "65536"])
async def test_densities_are_numbers(said: str) -> None:
    """Whatever the peer says that they are, it could say as a text."""
    elements = {
        0x00080005: Element(0x00080005, "CS", b"ISO_IR 192"),
        tags.ILLUMINATION: Element(tags.ILLUMINATION, "LO", said.encode()),
    }
    with pytest.raises(OperationError, match="is no number"):
        created(BOX_RULES, AttributeList(elements))


async def test_values_that_are_kept_are_short() -> None:
    for tag, vr in ((tags.FILM_SESSION_LABEL, "LO"), (0x00080005, "CS")):
        elements = {tag: Element(tag, vr, b"A" * 5000)}
        with pytest.raises(OperationError, match="is longer than 4096 bytes"):
            created(SESSION_RULES, AttributeList(elements))


async def test_of_an_image_nothing_is_kept_that_is_not_counted() -> None:
    async with printing() as caller:
        await caller.session()
        await caller.box()
        assert await caller.image(EncapsulatedDocument=bytes(100_000), MaxDensity=250) == 0
        (scope,) = caller.scp._scopes.values()
        assert scope.session is not None
        (box,) = scope.session.film_boxes[BOX].image_boxes
        assert set(box.requested.elements) == {tags.MAX_DENSITY}
        assert box.held == 32 * 32


async def test_jobs_leave_the_room_that_the_index_needs() -> None:
    asked: list[int] = []

    def full(size: int) -> None:
        asked.append(size)
        raise StorageError("the disk is full", out_of_resources=True)

    async with printing() as caller:
        caller.scp._desk._manager._check_room = full
        await caller.session()
        await caller.box()
        await caller.image()
        assert await caller.print() == 0x0213
        assert asked[0] > 100
        assert await caller.stores.print_jobs.jobs(limit=9) == []


async def test_many_images_at_once_take_no_more_than_they_may() -> None:
    limits = PrintLimits(memory_bytes=20_000)
    async with printing(limits=limits) as caller:
        await caller.session()
        await caller.box(ImageDisplayFormat="STANDARD\\10,10")
        statuses = [await caller.image(position) for position in range(1, 101)]
        assert statuses.count(0) < 20
        assert set(statuses) == {0, 0xC605}
        assert caller.scp._memory.taken <= 20_000
        assert await caller.delete(tags.FILM_SESSION, SESSION) == 0
        assert caller.scp._memory.taken == 0


async def test_a_film_of_too_many_pixels_is_refused_before_it_is_composed() -> None:
    composed: list[Film] = []

    async def compose(film: Film) -> bytes:
        composed.append(film)
        return b""

    async with printing(limits=PrintLimits(film_bytes=2 * 32 * 32), compose=compose) as caller:
        await caller.session()
        await caller.box(ImageDisplayFormat="STANDARD\\3,1")
        for position in (1, 2, 3):
            assert await caller.image(position) == 0
        for sop_class, uid in ((tags.FILM_BOX, BOX), (tags.FILM_SESSION, SESSION)):
            assert await caller.print(sop_class, uid) == 0x0213
        assert composed == []
