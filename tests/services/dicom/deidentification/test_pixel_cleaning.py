"""Cleaning of pixels: every frame and every syntax, by rules, regions and recognized texts."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pydicom
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.device_rules import (
    DeviceRuleError,
    known_devices,
    parse_device_rule,
    parse_device_rules,
    regions_of,
)
from isocenter.services.dicom.deidentification.files import (
    DeidentifiedFile,
    deidentify_with_pixels,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import (
    PixelOptions,
    QuarantineError,
    UnknownPolicy,
    cleaned_pixels,
)
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.deidentification.pseudonyms import Pseudonyms
from isocenter.services.dicom.deidentification.regions import PixelMask, Region
from isocenter.services.dicom.deidentification.text_recognition import TextPolicy
from isocenter.services.dicom.pixels.conversion import ConversionOptions, convert
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.deidentification import KEY, file_bytes, opened, patient

ROWS, COLUMNS = 64, 96
RULE = parse_device_rule("Modality=US;Manufacturer~acme\t0,0,96,10;90,50,20,20")
RULES = PixelOptions(rules=(RULE,))


def picture(shape: tuple[int, ...], dtype: str, seed: int = 1) -> np.ndarray[Any, Any]:
    """Smooth, so that codecs with losses lose little, and different everywhere."""
    grid = np.indices(shape).sum(axis=0)
    return (40 + (grid * seed) % 160).astype(dtype)


def image(
    *, frames: int = 3, rgb: bool = False, bits: int = 8, signed: bool = False, **values: Any
) -> Dataset:
    made = patient(Modality="US", Manufacturer="ACME Ultrasound", **values)
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    shape: tuple[int, ...] = (frames, ROWS, COLUMNS, 3) if rgb else (frames, ROWS, COLUMNS)
    kind = "i" if signed else "u"
    made.PixelData = picture(shape, f"<{kind}{bits // 8}").tobytes()
    made.Rows, made.Columns, made.NumberOfFrames = ROWS, COLUMNS, frames
    made.SamplesPerPixel = 3 if rgb else 1
    made.PhotometricInterpretation = "RGB" if rgb else "MONOCHROME2"
    if rgb:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = int(signed)
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    return made


async def samples_of(content: bytes, pool: CodecPool) -> list[np.ndarray[Any, Any]]:
    """The frames of a file, decoded."""
    from isocenter.services.dicom.mapped_object import mapped_object
    from isocenter.services.dicom.pixels.frames import open_image

    with opened(content) as source:
        syntax = source.head.transfer_syntax_uid
        if source.is_inflated:
            syntax = "1.2.840.10008.1.2.1"
        item = mapped_object(source.data, syntax, "1.2", "1.2")
        frames = []
        async with open_image(item) as found:
            for number in range(len(found)):
                frame = await found.decode(pool, number)
                width = frame.image.bits_allocated // 8
                kind = "i" if frame.image.is_signed else "u"
                array = np.frombuffer(frame.samples, f"<{kind}{width}")
                frames.append(array.reshape(frame.image.shape))
        return frames


async def converted(content: bytes, keyword: str, pool: CodecPool) -> bytes:
    syntax = BY_KEYWORD[keyword]
    options = ConversionOptions(
        transfer_syntax_uid=syntax.uid,
        transcoding=TranscodingOptions(lossy=syntax.is_lossy, encoding=EncodingOptions(quality=95)),
    )
    target = io.BytesIO()
    with opened(content) as source:
        await convert(source, target, options, pool)
    return target.getvalue()


async def cleaned(
    content: bytes, pool: CodecPool, options: PixelOptions = RULES
) -> tuple[bytes, DeidentifiedFile]:
    target = io.BytesIO()
    profile = Profile(options=frozenset([Option.PIXELS]))
    with opened(content) as source:
        made = await deidentify_with_pixels(
            source, Deidentifier(profile, Pseudonyms(KEY)), pool, options,
            lambda each: each.write(target),
        )  # fmt: skip
    return target.getvalue(), made


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool() as made:
        yield made


KEPT = ("implicit", "explicit", "explicit-be", "deflated", "rle", "jpeg-lossless", "jpeg-ls",
        "jpeg2000", "htj2k")  # fmt: skip
LOSSY = {"jpeg-baseline": "jpeg-lossless", "jpeg-ls-near": "jpeg-ls", "jpeg2000-lossy": "jpeg2000",
         "htj2k-lossy": "htj2k"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("rgb", "bits"), [(False, 8), (True, 8), (False, 16)])
async def test_every_frame_of_every_syntax_is_blackened_and_nothing_else_changes(
    pool: CodecPool, rgb: bool, bits: int
) -> None:
    plain = file_bytes(image(rgb=rgb, bits=bits))
    wanted = {keyword: keyword for keyword in KEPT}
    if bits == 8:
        wanted |= LOSSY
    for keyword, expected in wanted.items():
        content = await converted(plain, keyword, pool)
        before = await samples_of(content, pool)
        result, _ = await cleaned(content, pool)
        after = await samples_of(result, pool)
        made = pydicom.dcmread(io.BytesIO(result))
        assert made.file_meta.TransferSyntaxUID == BY_KEYWORD[expected].uid, keyword
        assert len(after) == len(before) == 3
        for old, new in zip(before, after, strict=True):
            black = 0 if rgb else old.min()
            assert (new[:10] == black).all(), keyword
            assert (new[50:, 90:] == black).all(), keyword
            assert (new[10:50] == old[10:50]).all(), keyword
            assert (new[50:, :90] == old[50:, :90]).all(), keyword
        assert made.ImageType[0] == "DERIVED"
        assert made.BurnedInAnnotation == "NO"
        assert made.get("LossyImageCompression", "00") == ("01" if keyword in LOSSY else "00")
        assert made.DerivationDescription
        codes = [each.CodeValue for each in made.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113101"]


async def test_outside_of_ultrasound_regions_nothing_stays(pool: CodecPool) -> None:
    one = image(rgb=True)
    regions = []
    for x0, y0, x1, y1 in ((10, 20, 39, 49), (50, 20, 79, 39)):
        region = Dataset()
        region.RegionLocationMinX0, region.RegionLocationMinY0 = x0, y0
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = x1, y1
        regions.append(region)
    one.SequenceOfUltrasoundRegions = regions
    content = file_bytes(one)
    before = await samples_of(content, pool)
    result, _ = await cleaned(content, pool, PixelOptions())
    for old, new in zip(before, await samples_of(result, pool), strict=True):
        kept = np.zeros((ROWS, COLUMNS), bool)
        kept[20:50, 10:40] = kept[20:40, 50:80] = True
        assert (new[kept] == old[kept]).all()
        assert not new[~kept].any()


async def test_what_takes_nothing_away_does_not_count_as_known(pool: CodecPool) -> None:
    filled = Dataset()
    filled.RegionLocationMinX0, filled.RegionLocationMinY0 = 0, 0
    filled.RegionLocationMaxX1, filled.RegionLocationMaxY1 = COLUMNS - 1, ROWS - 1
    one = image(frames=1)
    one.SequenceOfUltrasoundRegions = [filled]
    with pytest.raises(QuarantineError):
        await cleaned(file_bytes(one), pool, PixelOptions())
    beside = parse_device_rules(f"Modality=US\t{COLUMNS},0,500,20\n")
    with pytest.raises(QuarantineError):
        await cleaned(file_bytes(image(frames=1)), pool, PixelOptions(rules=beside))


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [
        ({}, True),
        ({"BurnedInAnnotation": "NO"}, False),
        ({"Modality": "CT"}, False),
        ({"Modality": "CT", "BurnedInAnnotation": "YES"}, True),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"Modality": "SM", "ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, True),
    ],
)
async def test_what_may_name_the_patient_without_a_rule_is_quarantined(
    pool: CodecPool, values: dict[str, Any], is_refused: bool
) -> None:
    one = image(frames=1)
    one.Manufacturer = "Nobody"
    for keyword, value in values.items():
        setattr(one, keyword, value)
    content = file_bytes(one)
    if not is_refused:
        result, _ = await cleaned(content, pool)
        assert pydicom.dcmread(io.BytesIO(result)).PixelData == one.PixelData
        return
    with pytest.raises(QuarantineError, match="no rule says where"):
        await cleaned(content, pool)
    accepted = PixelOptions(unknown=UnknownPolicy.ACCEPT)
    result, made = await cleaned(content, pool, accepted)
    assert pydicom.dcmread(io.BytesIO(result)).PixelData == one.PixelData
    assert "accepted" in made.done.report.warnings[0]
    # What nobody cleaned does not say that it is clean.
    after = pydicom.dcmread(io.BytesIO(result))
    assert after.get("BurnedInAnnotation") == one.get("BurnedInAnnotation")
    assert "113101" not in {item.CodeValue for item in after.DeidentificationMethodCodeSequence}


async def test_an_overlay_in_unused_bits_is_cleared(pool: CodecPool) -> None:
    one = image(frames=1, bits=16)
    one.Modality, one.Manufacturer = "CT", "Nobody"
    samples = (np.frombuffer(one.PixelData, "<u2") & 0x0FFF) | 0x8000
    one.BitsStored, one.HighBit = 12, 11
    one.PixelData = samples.astype("<u2").tobytes()
    one.add_new((0x6000, 0x0100), "US", 16)
    one.add_new((0x6000, 0x0102), "US", 15)
    result, _ = await cleaned(file_bytes(one), pool, PixelOptions())
    made = pydicom.dcmread(io.BytesIO(result))
    assert made.PixelData == (samples & 0x0FFF).astype("<u2").tobytes()


async def test_an_object_without_pixels_has_clean_ones(pool: CodecPool) -> None:
    result, _ = await cleaned(file_bytes(patient()), pool)
    made = pydicom.dcmread(io.BytesIO(result))
    assert made.BurnedInAnnotation == "NO"
    assert "DerivationDescription" not in made


@pytest.mark.parametrize(
    ("term", "samples", "black"),
    [
        ("MONOCHROME2", np.array([[3, 9], [5, 7]], "<u1"), [[3, 3], [5, 7]]),
        ("MONOCHROME1", np.array([[3, 9], [5, 7]], "<u1"), [[9, 9], [5, 7]]),
        ("MONOCHROME2", np.array([[-3, 9], [5, 7]], "<i2"), [[-3, -3], [5, 7]]),
        ("YBR_FULL", np.full((2, 2, 3), 77, "<u1"), [[[0, 128, 128]] * 2, [[77] * 3] * 2]),
        ("PALETTE COLOR", np.array([[3, 9], [5, 7]], "<u1"), [[0, 0], [5, 7]]),
    ],
)
def test_black_is_what_a_viewer_shows_as_black(
    term: str, samples: np.ndarray[Any, Any], black: list[Any]
) -> None:
    bits = samples.itemsize * 8
    described = ImageDescription(
        rows=2, columns=2, samples_per_pixel=1 if samples.ndim == 2 else 3, bits_allocated=bits,
        bits_stored=bits, high_bit=bits - 1, photometric_interpretation=term,
        pixel_representation=int(samples.dtype.kind == "i"),
    )  # fmt: skip
    mask = PixelMask(blackened=(Region(-5, -5, 99, 6),))
    made = mask.apply(DecodedFrame(samples.tobytes(), described))
    assert np.frombuffer(made.samples, samples.dtype).reshape(samples.shape).tolist() == black


def test_the_rules_that_are_known_are_read_and_applied() -> None:
    assert len(known_devices()) == 107
    values = {"Modality": "US", "Manufacturer": "GE Healthcare", "ManufacturerModelName": "LOGIQE9"}
    assert Region(0, 0, 960, 70) in regions_of(values, known_devices())
    assert regions_of({"Modality": "MR", "Manufacturer": "GE"}, known_devices()) == ()


@pytest.mark.parametrize(
    "line", ["", "Modality=US", "US\t0,0,1,1", "NoKeyword=x\t0,0,1,1", "Modality=US\t0,0,1",
             "Modality=US\t-1,0,1,1"],
)  # fmt: skip
def test_rules_that_say_nothing_are_refused(line: str) -> None:
    with pytest.raises(DeviceRuleError):
        parse_device_rule(line)


def test_rules_of_a_file_have_comments_and_faults_a_line() -> None:
    rules = parse_device_rules("# ours\n\nModality=US|XC\t1,2,3,4;5,6,7,8\n")
    assert rules[0].regions == (Region(1, 2, 3, 4), Region(5, 6, 7, 8))
    assert rules[0].applies({"Modality": "XC"})
    assert not rules[0].applies({"Modality": "XCX"})
    with pytest.raises(DeviceRuleError, match="line 2"):
        parse_device_rules("Modality=US\t1,2,3,4\nnonsense\n")


# -- Recognized texts --------------------------------------------------------------------


def written(text: str) -> Dataset:
    """Two frames, of which the second shows *text*."""
    pil = pytest.importorskip("PIL.Image")
    from PIL import ImageDraw, ImageFont

    one = image(frames=2)
    one.Rows, one.Columns = 240, 320
    blank = pil.new("L", (320, 240), 10)
    second = blank.copy()
    ImageDraw.Draw(second).text((10, 5), text, fill=240, font=ImageFont.load_default(size=20))
    one.PixelData = np.stack([np.asarray(blank), np.asarray(second)]).tobytes()
    one.Manufacturer = "Nobody"
    return one


@pytest.mark.slow
async def test_text_in_any_frame_is_found_by_verification_and_can_be_removed(
    pool: CodecPool,
) -> None:
    pytest.importorskip("rapidocr")
    content = file_bytes(written("ZENOBIA"))
    profile = Profile(options=frozenset([Option.PIXELS]))
    with opened(content) as source, TemporaryFile() as target:
        made = await deidentify_with_pixels(
            source, Deidentifier(profile, Pseudonyms(KEY)), pool,
            PixelOptions(unknown=UnknownPolicy.ACCEPT), lambda each: each.write(target),
        )  # fmt: skip
        (finding,) = await made.findings_in_pixels(target, pool)
    assert finding.text == "(7FE0,0010) shows a word of the patient in frame 2"
    result, made = await cleaned(content, pool, PixelOptions(text=TextPolicy.REMOVE))
    for frame in await samples_of(result, pool):
        assert (frame == 10).all()
    assert "text was removed" in made.done.report.warnings[0]


@pytest.mark.parametrize(
    ("policy", "note"), [(TextPolicy.QUARANTINE, ""), (TextPolicy.WARN, "shows text in 1 places")]
)
async def test_text_is_quarantined_or_told_where_it_is_not_removed(
    pool: CodecPool, monkeypatch: pytest.MonkeyPatch, policy: TextPolicy, note: str
) -> None:
    async def recognize(
        pool: CodecPool, frame: DecodedFrame
    ) -> list[tuple[str, int, int, int, int]]:
        await trio.lowlevel.checkpoint()
        return [("471100", 3, 3, 20, 8), ("L", 50, 3, 5, 8)]

    monkeypatch.setattr(CodecPool, "recognize", recognize)
    one = image(frames=2)
    one.BurnedInAnnotation, one.Manufacturer = "NO", "Nobody"
    options = PixelOptions(text=policy)
    if not note:
        with pytest.raises(QuarantineError, match="shows text in 1 places"):
            await cleaned(file_bytes(one), pool, options)
        return
    _, made = await cleaned(file_bytes(one), pool, options)
    assert made.done.report.warnings == [note]


async def test_the_source_is_not_touched(pool: CodecPool) -> None:
    content = file_bytes(image())
    with opened(content) as source:
        tree = DataSetTree(source.data, source.encoding)
        async with cleaned_pixels(source, tree, pool, RULES) as clean:
            assert clean.is_changed
            assert clean.tree is not tree
        assert bytes(source.data) in content
        assert not tree.root.is_changed
