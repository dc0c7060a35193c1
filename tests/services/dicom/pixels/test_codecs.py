"""Decoding and encoding of single frames: what is lossless gives back every bit."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from isocenter.engine.dataset import encoding_of, index_frames, map_of, read_file_head
from isocenter.services.dicom.pixels.decoding import decode_frame
from isocenter.services.dicom.pixels.encoding import (
    EncodingOptions,
    encode_frame,
    recompress_frame,
)
from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.image import DESCRIBING, ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    BY_KEYWORD,
    PIXEL_SYNTAXES,
    Codec,
    Support,
    decoding_of,
)
from support.images import describe, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
LOSSLESS = [
    each.keyword
    for each in PIXEL_SYNTAXES.values()
    if each.encoding is Support.AVAILABLE and not each.is_lossy and each.is_encapsulated
]
BASELINE = BY_KEYWORD["jpeg-baseline"].uid


def decoded(path: Path) -> list[tuple[bytes, ImageDescription]]:
    """All frames of a file."""
    content = path.read_bytes()
    head = read_file_head(content)
    body = content[head.data_set_offset :]
    encoding = encoding_of(head.transfer_syntax_uid)
    found = map_of(body, encoding, DESCRIBING)
    image = ImageDescription.of(found, big_endian=encoding.big_endian)
    index = index_frames(
        found, number_of_frames=image.number_of_frames, frame_bits=image.frame_bits
    )
    return [
        decode_frame(
            b"".join(body[span.offset : span.end] for span in frame.spans),
            image,
            head.transfer_syntax_uid,
        )
        for frame in index
    ]


def array(samples: bytes, image: ImageDescription) -> Any:
    width = max(image.bits_allocated // 8, 1)
    kind = "i" if image.is_signed else "u"
    return np.frombuffer(samples, f"<{kind}{width}").reshape(image.shape)


class TestLossless:
    @pytest.mark.parametrize("keyword", LOSSLESS)
    @pytest.mark.parametrize("bits", [2, 7, 8, 9, 10, 12, 15, 16])
    @pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
    def test_every_depth_comes_back(self, keyword: str, bits: int, signed: bool) -> None:
        if keyword == "jpegxl" and signed:
            return  # refused: see below
        image = describe(33, 47, bits=bits, signed=signed)
        samples = pixels(image).tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        assert decode_frame(frame, said, uid)[0] == samples

    @pytest.mark.parametrize("keyword", LOSSLESS)
    @pytest.mark.parametrize("bits", [8, 16])
    def test_colours_come_back(self, keyword: str, bits: int) -> None:
        image = describe(20, 31, bits=bits, samples=3)
        samples = pixels(image).tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        back, came = decode_frame(frame, said, uid)
        assert back == samples
        assert came.photometric_interpretation == "RGB"

    @pytest.mark.parametrize("keyword", LOSSLESS)
    def test_bits_above_those_stored_come_back(self, keyword: str) -> None:
        image = describe(16, 16, bits=12)
        samples = (pixels(image) | 0xA000).tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        assert decode_frame(frame, said, uid)[0] == samples

    @pytest.mark.parametrize("keyword", LOSSLESS)
    @pytest.mark.parametrize("shape", [(1, 1), (1, 700), (3, 5), (65, 1)])
    def test_small_and_narrow_images_come_back(self, keyword: str, shape: tuple[int, int]) -> None:
        image = describe(*shape, bits=16)
        samples = np.random.default_rng(1).integers(0, 65536, shape).astype("<u2").tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        assert decode_frame(frame, said, uid)[0] == samples

    @pytest.mark.parametrize("keyword", ["rle", "frame-deflate", "encapsulated"])
    def test_samples_of_32_bits_come_back(self, keyword: str) -> None:
        image = describe(9, 11, bits=32, samples=3)
        samples = pixels(image).tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        assert decode_frame(frame, said, uid)[0] == samples

    @pytest.mark.parametrize("keyword", ["frame-deflate", "encapsulated"])
    def test_single_bits_are_packed(self, keyword: str) -> None:
        image = describe(5, 7, bits=1)
        samples = pixels(image).tobytes()
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples, image, uid)
        assert len(frame) <= 5 or keyword == "frame-deflate"
        assert decode_frame(frame, said, uid)[0] == samples

    def test_transforms_of_colour_are_named(self) -> None:
        image = describe(16, 16, samples=3)
        samples = pixels(image).tobytes()
        named = {
            keyword: encode_frame(samples, image, BY_KEYWORD[keyword].uid)[1]
            for keyword in LOSSLESS
        }
        terms = {key: said.photometric_interpretation for key, said in named.items()}
        transformed = {"jpeg2000", "htj2k", "htj2k-rpcl"}
        assert terms == {key: "YBR_RCT" if key in transformed else "RGB" for key in named}

    def test_rpcl_is_what_it_says(self) -> None:
        image = describe(600, 300, bits=12)
        uid = BY_KEYWORD["htj2k-rpcl"].uid
        frame, _ = encode_frame(pixels(image).tobytes(), image, uid)
        cod = frame.index(b"\xff\x52")
        assert frame[cod + 5] == 2  # RPCL (T.800 Table A.16)
        assert frame[cod + 9] == 4  # 600 → 300 → 150 → 75 → 38
        assert b"\xff\x55" in frame  # TLM


class TestLossy:
    def differences(self, keyword: str, image: ImageDescription, options: EncodingOptions) -> int:
        samples = pixels(image)
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(samples.tobytes(), image, uid, options)
        back, came = decode_frame(frame, said, uid)
        return int(np.abs(array(back, came).astype(int) - samples.astype(int)).max())

    @pytest.mark.parametrize("near", [1, 2, 5])
    def test_near_lossless_keeps_its_bound(self, near: int) -> None:
        image = describe(50, 60, bits=12)
        worst = self.differences("jpeg-ls-near", image, EncodingOptions(near=near))
        assert 0 < worst <= near

    def test_samples_do_not_leave_the_range_of_bits_stored(self) -> None:
        """A codestream of 16 bits could: who masks the samples would see black for white."""
        image = describe(32, 32, bits=12)
        full = np.full(image.shape, 4095, "<u2")
        full[::2] = pixels(image)[::2]
        for keyword in ("jpeg-ls-near", "jpeg2000-lossy"):
            uid = BY_KEYWORD[keyword].uid
            frame, said = encode_frame(full.tobytes(), image, uid, EncodingOptions(near=3))
            back = array(*decode_frame(frame, said, uid))
            assert back.max() == 4095 or keyword != "jpeg-ls-near"
            assert back.max() < 4096
            if keyword == "jpeg-ls-near":
                assert np.abs(back.astype(int) - full).max() <= 3

    @pytest.mark.parametrize("keyword", ["jpeg2000-lossy", "htj2k-lossy"])
    def test_a_ratio_is_kept(self, keyword: str) -> None:
        image = describe(256, 256, bits=12)
        samples = (pixels(image) // 2 + 1000).tobytes()
        uid = BY_KEYWORD[keyword].uid
        for ratio in (5, 20):
            frame, _ = encode_frame(samples, image, uid, EncodingOptions(ratio=ratio))
            assert ratio <= image.rows * image.columns * 12 / 8 / len(frame) < 3 * ratio

    @pytest.mark.parametrize("half", [False, True])
    def test_jpeg_in_colour(self, half: bool) -> None:
        image = describe(64, 64, samples=3)
        worst = self.differences(
            "jpeg-baseline", image, EncodingOptions(quality=95, half_chroma=half)
        )
        assert worst < 90 if half else worst < 30
        _, said = encode_frame(
            pixels(image).tobytes(), image, BASELINE, EncodingOptions(half_chroma=half)
        )
        wanted = "YBR_FULL_422" if half else "YBR_FULL"
        assert said.photometric_interpretation == wanted

    def test_jpeg_xl(self) -> None:
        image = describe(64, 64, samples=3)
        assert 0 < self.differences("jpegxl-lossy", image, EncodingOptions()) < 100

    def test_jpeg_becomes_jpeg_xl_and_the_same_jpeg_again(self) -> None:
        image = describe(64, 64, samples=3)
        jpeg, said = encode_frame(pixels(image).tobytes(), image, BASELINE)
        uid = BY_KEYWORD["jpegxl-jpeg"].uid
        frame = recompress_frame(jpeg, uid)
        assert recompress_frame(frame, BASELINE) == jpeg
        ours, came = decode_frame(frame, said, uid)
        theirs, _ = decode_frame(jpeg, said, BASELINE)
        assert came.photometric_interpretation == "RGB"
        assert np.abs(np.frombuffer(ours, "u1").astype(int) - np.frombuffer(theirs, "u1")).max() < 6

    @pytest.mark.parametrize(
        ("keyword", "image", "fault"),
        [
            ("jpeg-baseline", describe(8, 8, bits=12), "JPEG Baseline has 8 bits"),
            ("jpeg-baseline", describe(8, 8, signed=True), "without a sign"),
            (
                "jpeg-baseline",
                describe(8, 8, photometric_interpretation="PALETTE COLOR"),
                "PALETTE COLOR has no place",
            ),
            ("jpeg-ls-near", describe(8, 8, bits=16, signed=True), "signed samples"),
            ("jpegxl", describe(8, 8, bits=16, signed=True), "signed samples"),
            ("jpeg2000", describe(8, 8, bits=32), "1 samples of 32 bits"),
            ("jpeg-ls", describe(8, 8, bits=1), "1 samples of 1 bits"),
            ("rle", describe(8, 8, bits=1), "RLE with Bits Allocated 1"),
        ],
    )
    def test_what_has_no_place_is_refused(
        self, keyword: str, image: ImageDescription, fault: str
    ) -> None:
        with pytest.raises(ImageError, match=fault):
            encode_frame(pixels(image).tobytes(), image, BY_KEYWORD[keyword].uid)


class TestNative:
    explicit = BY_KEYWORD["explicit"].uid

    def test_planes_become_pixels(self) -> None:
        image = describe(4, 5, bits=16, samples=3)
        whole = pixels(image)
        planes = np.moveaxis(whole, 2, 0).tobytes()
        back, came = decode_frame(planes, image.exchange(planar_configuration=1), self.explicit)
        assert back == whole.tobytes()
        assert came.planar_configuration == 0

    def test_the_byte_order_becomes_little(self) -> None:
        image = describe(4, 5, bits=16)
        whole = pixels(image)
        swapped = whole.byteswap().tobytes()
        assert decode_frame(swapped, image, BY_KEYWORD["explicit-be"].uid)[0] == whole.tobytes()

    def test_samples_of_32_bits_lie_in_words(self) -> None:
        """As DCMTK and GDCM read them; pydicom takes their four bytes in reverse."""
        image = describe(1, 1, bits=32)
        assert decode_frame(b"\1\2\3\4", image, BY_KEYWORD["explicit-be"].uid)[0] == b"\2\1\4\3"
        floats = image.exchange(is_float=True)
        assert decode_frame(b"\1\2\3\4", floats, BY_KEYWORD["explicit-be"].uid)[0] == b"\4\3\2\1"

    def test_half_chroma_becomes_whole(self) -> None:
        image = describe(1, 2, samples=3, photometric_interpretation="YBR_FULL_422")
        back, came = decode_frame(b"\1\2\3\4", image, self.explicit)
        assert back == b"\1\3\4\2\3\4"
        assert came.photometric_interpretation == "YBR_FULL"

    def test_bits_begin_within_a_byte(self) -> None:
        image = describe(1, 5, bits=1)
        back, _ = decode_frame(b"\x48\1", image, self.explicit, skip_bits=3)
        assert list(back) == [1, 0, 0, 1, 0]


class TestFiles:
    """Of pydicom, with what their pictures are known to be."""

    def test_jpeg_2000_with_another_sign_than_the_data_set_says(self) -> None:
        ((samples, image),) = decoded(DATA / "J2K_pixelrep_mismatch.dcm")
        values = array(samples, image)
        assert values.min() == -2000
        assert values[0, 0] == -2000

    @pytest.mark.parametrize(
        "name",
        [
            "SC_rgb_dcmtk_+eb+cr.dcm",
            "SC_rgb_dcmtk_+eb+cy+n1.dcm",
            "SC_rgb_dcmtk_+eb+cy+np.dcm",
            "SC_rgb_dcmtk_+eb+cy+s2.dcm",
            "SC_rgb_dcmtk_+eb+cy+s4.dcm",
            "SC_rgb_gdcm_KY.dcm",
            "SC_rgb_jpeg_dcmtk.dcm",
            "SC_rgb_jpeg_gdcm.dcm",
            "SC_rgb_rle.dcm",
            "SC_rgb_rle_2frame.dcm",
        ],
    )
    def test_colours_are_right_whatever_was_done_to_them(self, name: str) -> None:
        samples, image = decoded(DATA / name)[0]
        values = array(samples, image).astype(int)
        assert image.photometric_interpretation == "RGB"
        for row, colour in ((5, (255, 0, 0)), (25, (0, 255, 0)), (45, (0, 0, 255))):
            assert np.abs(values[row, 50] - colour).max() <= 12, (row, values[row, 50])

    @pytest.mark.parametrize(
        ("name", "reference"),
        [
            ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
            ("MR_small_RLE.dcm", "MR_small.dcm"),
            ("MR_small_bigendian.dcm", "MR_small.dcm"),
            ("rtdose_rle.dcm", "rtdose.dcm"),
        ],
    )
    def test_the_same_image_in_another_syntax(self, name: str, reference: str) -> None:
        assert [a for a, _ in decoded(DATA / name)] == [a for a, _ in decoded(DATA / reference)]


class TestLies:
    image = describe(16, 16, bits=12)

    @pytest.mark.parametrize("keyword", ["jpeg-lossless", "jpeg-ls", "jpeg2000", "htj2k", "jpegxl"])
    @pytest.mark.parametrize(
        "lie", [{"rows": 8}, {"columns": 17}, {"bits_allocated": 8, "bits_stored": 8}]
    )
    def test_a_codestream_that_contradicts_the_data_set(
        self, keyword: str, lie: dict[str, int]
    ) -> None:
        uid = BY_KEYWORD[keyword].uid
        frame, _ = encode_frame(pixels(self.image).tobytes(), self.image, uid)
        if keyword == "jpegxl" and "rows" not in lie and "columns" not in lie:
            return  # its header is left to the decoder; the samples are cut to size there
        with pytest.raises(ImageError, match=r"the data set says|Bits Allocated is"):
            decode_frame(frame, self.image.exchange(**lie), uid)

    def test_samples_that_are_not_there(self) -> None:
        uid = BY_KEYWORD["jpeg-ls"].uid
        frame, _ = encode_frame(pixels(self.image).tobytes(), self.image, uid)
        with pytest.raises(ImageError, match="of 1 samples, the data set says 16 × 16"):
            decode_frame(frame, describe(16, 16, bits=16, samples=3), uid)

    @pytest.mark.parametrize("keyword", LOSSLESS)
    def test_truncated_and_empty_frames(self, keyword: str) -> None:
        uid = BY_KEYWORD[keyword].uid
        frame, said = encode_frame(pixels(self.image).tobytes(), self.image, uid)
        for length in (0, 1, 7, 30):
            with pytest.raises(ImageError):
                decode_frame(frame[:length], said, uid)

    def test_a_size_that_nobody_could_hold(self) -> None:
        uid = BY_KEYWORD["jpeg2000"].uid
        frame, said = encode_frame(pixels(self.image).tobytes(), self.image, uid)
        huge = bytearray(frame)
        huge[8:16] = struct.pack(">II", 1 << 31, 1 << 31)
        with pytest.raises(ImageError, match="2147483648 × 2147483648"):
            decode_frame(bytes(huge), said, uid)

    def test_a_bomb_of_zeros(self) -> None:
        deflater = zlib.compressobj(wbits=-15)
        bomb = deflater.compress(bytes(10 << 20)) + deflater.flush()
        with pytest.raises(ImageError, match="inflates to more than 512 bytes"):
            decode_frame(bomb, self.image, BY_KEYWORD["frame-deflate"].uid)

    def test_the_kind_that_another_syntax_has(self) -> None:
        frame, said = encode_frame(
            pixels(self.image).tobytes(), self.image, BY_KEYWORD["jpeg-ls"].uid
        )
        with pytest.raises(ImageError, match="the frame is JPEG-LS"):
            decode_frame(frame, said, BASELINE)


class TestSupport:
    def test_three_kinds_of_no(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image = describe(8, 8)
        assert decoding_of("1.2.3") is Support.UNKNOWN
        with pytest.raises(CodecUnavailableError, match=r"'1\.2\.3' is unknown"):
            decode_frame(b"x", image, "1.2.3")
        video = "1.2.840.10008.1.2.4.102"
        assert decoding_of(video) is Support.PASSED_THROUGH
        with pytest.raises(CodecUnavailableError, match="nothing here can decode MPEG-4"):
            decode_frame(b"x", image, video)
        monkeypatch.setattr(
            "isocenter.services.dicom.pixels.transfer_syntaxes._is_installed",
            lambda module: module != "imagecodecs",
        )
        assert decoding_of(BASELINE) is Support.NOT_INSTALLED
        with pytest.raises(CodecUnavailableError, match=r"pip install 'isocenter\[codecs\]'"):
            decode_frame(b"x", image, BASELINE)
        assert decoding_of(BY_KEYWORD["rle"].uid) is Support.AVAILABLE

    def test_each_codec_has_a_syntax(self) -> None:
        assert {each.codec for each in PIXEL_SYNTAXES.values()} == {*Codec, None}
        assert len(BY_KEYWORD) == len(PIXEL_SYNTAXES)
