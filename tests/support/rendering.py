"""Pictures of data sets made in the test's own process, through all of the pipeline."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from isocenter.engine.dataset import EXPLICIT_LITTLE, encoding_of, index_frames, map_of
from isocenter.services.dicom.pixels.image import DESCRIBING, ImageDescription
from isocenter.services.dicom.pixels.rendering.elements import FrameElements, read_elements
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from isocenter.services.dicom.pixels.rendering.pipeline import StoredFrame, render_frame
from isocenter.services.dicom.pixels.rendering.presentation_state import PresentationState
from support.images import Samples

_MOST = 64 << 20


def bytes_of(dataset: Dataset, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """The data set in an uncompressed transfer syntax, or as it is encapsulated."""
    encoding = encoding_of(syntax)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = encoding.implicit_vr
    buffer.is_little_endian = not encoding.big_endian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def picture_of(
    dataset: Dataset,
    options: RenderOptions | None = None,
    *,
    state: Dataset | None = None,
    frame: int = 0,
    syntax: str = "1.2.840.10008.1.2.1",
) -> Samples:
    """The pixels of a picture; see `picture_and_profile`."""
    return picture_and_profile(dataset, options, state=state, frame=frame, syntax=syntax)[0]


def picture_and_profile(
    dataset: Dataset,
    options: RenderOptions | None = None,
    *,
    state: Dataset | None = None,
    frame: int = 0,
    syntax: str = "1.2.840.10008.1.2.1",
) -> tuple[Samples, bytes]:
    """The pixels of a picture of one frame, numbered from 0 on, and its ICC profile."""
    data = bytes_of(dataset, syntax)
    encoding = encoding_of(syntax)
    found = map_of(data, encoding, DESCRIBING)
    image = ImageDescription.of(found, big_endian=encoding.big_endian)
    place = index_frames(
        found, number_of_frames=image.number_of_frames, frame_bits=image.frame_bits
    )[frame]
    frame_data = b"".join(data[span.offset : span.end] for span in place.spans)
    elements = FrameElements(read_elements(data, encoding), frame)
    applied = None
    if state is not None:
        applied = PresentationState.of(read_elements(bytes_of(state), EXPLICIT_LITTLE), elements)
    stored = StoredFrame(frame_data, image, syntax, place.skip_bits)
    return render_frame(stored, elements, options or RenderOptions(), applied, most=_MOST)


def read_pnm(data: bytes) -> Samples:
    """The pixels of a PGM or PPM as DCMTK writes it, in ASCII or binary."""
    kind, rest = data[:2], data[2:]
    words: list[int] = []
    while len(words) < 3:
        rest = rest.lstrip()
        if rest.startswith(b"#"):
            rest = rest.partition(b"\n")[2]
            continue
        word = rest.split(maxsplit=1)[0]
        rest = rest[len(word) :]
        words.append(int(word))
    width, height, top = words
    assert top == 255
    shape = (height, width) if kind in (b"P2", b"P5") else (height, width, 3)
    if kind in (b"P2", b"P3"):
        return np.array(rest.split(), int).reshape(shape)
    return np.frombuffer(rest[1:], np.uint8).astype(int).reshape(shape)
