"""Films: layouts, sizes, densities, what becomes of images, and files of them."""

from __future__ import annotations

import math
import subprocess
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.services.dicom.film.composer import compose_film
from isocenter.services.dicom.film.composition import compose, resized
from isocenter.services.dicom.film.density import DensityRange, jnd_index
from isocenter.services.dicom.film.display_format import DisplayFormat, DisplayFormatError
from isocenter.services.dicom.film.film import (
    Film,
    FilmImage,
    Fitting,
    Magnification,
    PixelBox,
    PresentationLut,
    TooLarge,
)
from isocenter.services.dicom.film.pdf import Page, write_pdf
from isocenter.services.dicom.film.pictures import for_printer, read_picture
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits

Array = np.ndarray


def image(rows: int = 10, columns: int = 20, **more: object) -> FilmImage:
    pixels = (np.arange(rows * columns) % 251).astype(np.uint8).tobytes()
    return FilmImage(image=ImageDescription(rows=rows, columns=columns), data=pixels, **more)  # type: ignore[arg-type]


def film(text: str = "STANDARD\\1,1", **more: object) -> Film:
    return Film(display_format=DisplayFormat.parse(text), **more)  # type: ignore[arg-type]


def pixels_of(made: Film) -> Array:
    return np.asarray(imagecodecs.png_decode(compose(made)[0]))


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("STANDARD\\2,1", [(0, 0, 0.5, 1), (0.5, 0, 0.5, 1)]),
        ("STANDARD\\1,2", [(0, 0, 1, 0.5), (0, 0.5, 1, 0.5)]),
        ("ROW\\1,2", [(0, 0, 1, 0.5), (0, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)]),
        ("COL\\1,2", [(0, 0, 0.5, 1), (0.5, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)]),
        (" standard\\1, 1 ", [(0, 0, 1, 1)]),
    ],
)
def test_layouts(text: str, boxes: list[tuple[float, ...]]) -> None:
    found = DisplayFormat.parse(text).boxes
    assert [(box.left, box.top, box.width, box.height) for box in found] == boxes


@pytest.mark.parametrize(
    "text",
    ["", "SLIDE", "SUPERSLIDE", "CUSTOM\\1", "STANDARD", "STANDARD\\1", "STANDARD\\1,2,3",
     "STANDARD\\0,1", "ROW\\0", "COL\\-1", "STANDARD\\11,10", "ROW\\999,999", "ROW\\1,", "1,1"],
)  # fmt: skip
def test_what_is_no_layout_says_which_there_are(text: str) -> None:
    with pytest.raises(DisplayFormatError):
        DisplayFormat.parse(text)


@pytest.mark.parametrize(
    ("made", "size"),
    [
        (film(size="8INX10IN"), (1200, 1500)),
        (film(size="8INX10IN", is_landscape=True), (1500, 1200)),
        (film(size="14INX17IN", dots_per_inch=300), (4200, 5100)),
        (film(size="A4"), (1240, 1754)),
        (film(size="24CMX30CM"), (1417, 1772)),
    ],
)
def test_sizes(made: Film, size: tuple[int, int]) -> None:
    assert made.pixel_size == size


def test_boxes_lie_side_by_side_within_the_film() -> None:
    made = film("STANDARD\\3,4", annotations=("",) * 6)
    covered = np.zeros((1500, 1200), int)
    for box in made.boxes():
        covered[box.top : box.top + box.height, box.left : box.left + box.width] += 1
    assert covered.max() == 1
    assert not covered[: made.strip].any()
    assert not covered[-made.strip :].any()
    assert covered.mean() > 0.9


@pytest.mark.parametrize(
    ("shown", "size", "fitting"),
    [
        (image(10, 20), (100, 50), Fitting.FITS),
        (image(400, 10), (2, 80), Fitting.FITS),
        (image(10, 20, magnification=Magnification.NONE), (20, 10), Fitting.FITS),
        (image(160, 80, magnification=Magnification.NONE), (40, 80), Fitting.DEMAGNIFIED),
        (
            image(160, 80, magnification=Magnification.NONE, too_large=TooLarge.DECIMATE),
            (40, 80),
            Fitting.DECIMATED,
        ),
        (
            image(160, 80, magnification=Magnification.NONE, too_large=TooLarge.CROP),
            (80, 160),
            Fitting.CROPPED,
        ),
        (
            image(160, 80, magnification=Magnification.NONE, too_large=TooLarge.FAIL),
            (40, 80),
            Fitting.FAILED,
        ),
        (image(10, 20, requested_width=25.4 / 3), (50, 25), Fitting.FITS),
        (image(10, 20, requested_width=25.4), (100, 50), Fitting.DEMAGNIFIED),
        (image(10, 20, shape=2.0), (80, 80), Fitting.FITS),
        (image(10, 20, shape=0.5), (100, 25), Fitting.FITS),
    ],
)
def test_images_in_a_box_of_100_by_80(
    shown: FilmImage, size: tuple[int, int], fitting: Fitting
) -> None:
    found = film().placement(shown, PixelBox(0, 0, 100, 80))
    assert ((found.width, found.height), found.fitting) == (size, fitting)


@pytest.mark.parametrize("index", [1, 20, 100, 250, 500, 800, 1000, 1023])
def test_indexes_and_luminances_of_the_standard_belong_together(index: int) -> None:
    """PS3.14 has a formula for each direction."""
    x = math.log(index)
    above = -1.3011877 + 8.0242636e-2 * x + 1.3646699e-1 * x**2 - 2.5468404e-2 * x**3
    above += 1.3635334e-3 * x**4
    below = 1 - 2.5840191e-2 * x - 1.0320229e-1 * x**2 + 2.8745620e-2 * x**3
    below += -3.1978977e-3 * x**4 + 1.2992634e-4 * x**5
    assert jnd_index(10 ** (above / below)) == pytest.approx(index, abs=0.5)


def test_densities_lie_between_black_and_white_as_they_are_seen() -> None:
    densities = DensityRange()
    assert densities.gray(300) == 0.0
    assert densities.gray(20) == 1.0
    assert densities.gray(400) == 0.0
    black, middle, white = (jnd_index(2000 * 10**-each + 10) for each in (3.0, 1.6, 0.2))
    assert densities.gray(160) == pytest.approx((middle - black) / (white - black))
    table = densities.linear_table()
    assert (table[0], table[-1]) == (0, 65_535)
    assert table == sorted(table)


def test_a_lookup_table_of_density_is_applied_to_all_bits() -> None:
    values = np.arange(4096, dtype="<u2").reshape(64, 64)
    shown = FilmImage(
        image=ImageDescription(rows=64, columns=64, bits_allocated=16, bits_stored=12, high_bit=11),
        data=values.tobytes(),
        magnification=Magnification.NONE,
        lut=PresentationLut("LIN OD"),
    )
    made = pixels_of(film(images=(shown,), border=300))
    expected = np.rint(np.asarray(DensityRange().linear_table()) / 65_535 * 255).reshape(64, 64)
    place = np.argwhere(made == 255).max(axis=0)
    found = made[place[0] - 63 : place[0] + 1, place[1] - 63 : place[1] + 1]
    assert np.abs(found - expected).max() <= 1


def test_borders_and_empty_boxes_have_their_densities() -> None:
    made = pixels_of(film("STANDARD\\2,1", border=20, empty=300))
    assert made[0, 0] == 255
    assert made[700, 300] == 0
    assert made[700, 900] == 0
    # Without an image every box is empty; with one, what surrounds it is border.
    made = pixels_of(film("STANDARD\\2,1", border=20, empty=300, images=(image(), None)))
    assert made[10, 300] == 255
    assert made[700, 900] == 0


def test_a_line_around_an_image_is_seen_on_its_ground() -> None:
    plain = image(magnification=Magnification.NONE)
    made = pixels_of(film(images=(plain,), has_trim=True, border=300))
    rows, columns = np.nonzero(made == 255)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (10, 20)


@pytest.mark.parametrize("magnification", list(Magnification))
@pytest.mark.parametrize("size", [(7, 5), (20, 10), (33, 21), (40, 20), (10, 40)])
def test_pictures_are_resized_to_what_is_asked(
    magnification: Magnification, size: tuple[int, int]
) -> None:
    flat = np.full((10, 20), 77, np.uint8)
    made = resized(flat, *size, magnification)
    assert made.shape == size[::-1]
    assert (made == 77).all()
    colour = resized(np.full((10, 20, 3), 77, np.uint8), *size, magnification)
    assert colour.shape == (*size[::-1], 3)


@given(
    st.sampled_from(list(Magnification)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@settings(deadline=None)
def test_of_what_is_larger_than_its_box_the_middle_is_made(
    magnification: Magnification,
    shape: tuple[int, int],
    size: tuple[int, int],
    box: tuple[int, int],
) -> None:
    """To cut what was enlarged, and to enlarge what is seen of it, are the same picture."""
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    whole = resized(pixels, *size, magnification)
    left, top = (max((length - room) // 2, 0) for length, room in zip(size, box, strict=True))
    expected = whole[top : top + box[1], left : left + box[0]].astype(int)
    made = resized(pixels, *size, magnification, PixelBox(0, 0, *box)).astype(int)
    assert made.shape == expected.shape
    # Rounded at another place, a mean may be one more or less.
    assert np.abs(made - expected).max() <= (0 if magnification is Magnification.REPLICATE else 1)


@pytest.mark.parametrize("magnification", list(Magnification))
def test_an_enlarged_image_takes_no_more_than_its_box(magnification: Magnification) -> None:
    """Made whole, it would have a terapixel."""
    pixels = np.asarray([[0, 0, 0], [0, 99, 0], [0, 0, 0]], np.uint8)
    made = resized(pixels, 1_000_001, 1_000_001, magnification, PixelBox(0, 0, 51, 31))
    assert made.shape == (31, 51)
    assert (made == 99).all()


def test_replication_makes_squares_and_cubes_overshoot() -> None:
    edge = np.repeat(np.asarray([[50] * 4 + [200] * 4], np.uint8), 8, axis=0)
    squares = resized(edge, 32, 32, Magnification.REPLICATE)
    assert set(np.unique(squares)) == {50, 200}
    linear = resized(edge, 32, 32, Magnification.BILINEAR)
    assert (linear.min(), linear.max()) == (50, 200)
    cubic = resized(edge, 32, 32, Magnification.CUBIC)
    assert cubic.min() < 50
    assert cubic.max() > 200


def test_a_film_comes_back_from_json_as_it_was() -> None:
    shown = image(
        is_reverse=True, magnification=Magnification.CUBIC, requested_width=12.5,
        too_large=TooLarge.CROP, lut=PresentationLut("", b"\0\1" * 4, 0, 12),
        densities=DensityRange(lowest=30),
    )  # fmt: skip
    made = film("ROW\\1,2", images=(shown, None, image()), annotations=("a",) * 6, border=1)
    pixels = shown.data + image().data
    assert Film.from_json(made.to_json()).with_pixels(pixels) == made


async def test_a_process_composes_what_we_would_and_refuses_what_is_too_much() -> None:
    made = film("STANDARD\\1,2", images=(image(), image(30, 30)))
    async with CodecPool(PoolLimits(workers=1, frame_bytes=8 << 20)) as pool:
        assert await compose_film(pool, made) == compose(made)[0]
        with pytest.raises(PixelError, match="at most 8388608 are composed"):
            await compose_film(pool, film(size="14INX17IN", dots_per_inch=300))


def test_a_pdf_has_the_pixels_of_the_film_at_its_size(tmp_path: Path) -> None:
    shown = np.arange(300 * 200).reshape(300, 200).astype(np.uint8)
    colour = np.stack((shown, shown.T.reshape(300, 200), 255 - shown), axis=-1)
    pages = [Page(imagecodecs.png_encode(each), 100) for each in (shown, colour)]
    written = write_pdf(pages, "Größe")
    assert b"/MediaBox [0 0 144.000 216.000]" in written
    path = tmp_path / "film.pdf"
    path.write_bytes(written)
    try:
        subprocess.run(
            ["gs", "-q", "-dSAFER", "-sDEVICE=ppmraw", "-r100", "-o", tmp_path / "%d.ppm", path],
            check=True,
        )
    except FileNotFoundError:
        stream = written.split(b"stream\n")[3].split(b"\nendstream")[0]
        assert len(zlib.decompress(stream)) == 300 * 201
        return
    for number, expected in enumerate((np.repeat(shown[..., None], 3, axis=2), colour), 1):
        data = (tmp_path / f"{number}.ppm").read_bytes()
        found = np.frombuffer(data[-300 * 200 * 3 :], np.uint8).reshape(300, 200, 3)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("png", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_such_png_makes_no_pdf(png: bytes) -> None:
    with pytest.raises(ValueError, match="PNG"):
        write_pdf([Page(png, 100)], "")


def test_pictures_become_what_printers_take(tmp_path: Path) -> None:
    gray = (np.arange(60).reshape(6, 10) * 1000).astype(np.uint16)
    colour = np.stack((gray >> 8, gray >> 9, gray >> 10), axis=-1).astype(np.uint8)

    def read(pixels: Array) -> object:
        path = tmp_path / "picture.png"
        path.write_bytes(imagecodecs.png_encode(pixels))
        picture = trio.run(read_picture, path)
        assert picture is not None
        return picture

    described, pixels = for_printer(read(gray), is_colour=False)  # type: ignore[arg-type]
    assert (described.bits_stored, described.bits_allocated) == (12, 16)
    assert np.array_equal(np.frombuffer(pixels, "<u2").reshape(6, 10), gray >> 4)
    described, pixels = for_printer(read(colour), is_colour=True)  # type: ignore[arg-type]
    assert described.planar_configuration == 1
    planes = np.frombuffer(pixels, np.uint8).reshape(3, 6, 10)
    assert np.array_equal(planes.transpose(1, 2, 0), colour)
    described, pixels = for_printer(read(colour), is_colour=False)  # type: ignore[arg-type]
    assert described.samples_per_pixel == 1
    described, pixels = for_printer(read(gray), is_colour=True)  # type: ignore[arg-type]
    assert described.samples_per_pixel == 3
    path = tmp_path / "x.dcm"
    path.write_bytes(bytes(128) + b"DICM")
    assert trio.run(read_picture, path) is None
