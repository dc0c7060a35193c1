"""The objects that are stored: made once, their names changed in place.

All have the header of `ct_image`: about 150 elements, with sequences and private blocks.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ct_image import ct_image, part_10
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from isocenter.engine import CStoreRequest
from isocenter.engine.dataset import read_file_meta
from isocenter.engine.dimse.message_codec import encode_message
from isocenter.engine.pdv import encode_fragments

CT: Final = str(CTImageStorage)
MULTI_FRAME: Final = str(MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
EXPLICIT: Final = str(ExplicitVRLittleEndian)

#: Side of a square image of 16 bits: 12 KB and 528 KB with the header.
SMALL_SIDE: Final = 64
CT_SIDE: Final = 512
FRAME_BYTES: Final = 2 * CT_SIDE * CT_SIDE
#: Instances of one series.
SERIES_LENGTH: Final = 200

#: Numbers have eight digits and no leading zero, so that all names have one length.
FIRST_NUMBER: Final = 10_000_000
#: This run's own part of every UID: objects of an earlier one are others.
_RUN: Final = 10**9 + secrets.randbelow(9 * 10**9)
_ROOT: Final = f"1.2.826.0.1.3680043.8.498.{_RUN}"
#: (0000,0110), Implicit VR Little Endian, two bytes.
_MESSAGE_ID_HEADER: Final = bytes.fromhex("0000 1001 02000000")


def instance_uid(number: int) -> str:
    return f"{_ROOT}.3.{number}"


def study_uid(number: int) -> str:
    return f"{_ROOT}.1.{number}"


def series_uid(number: int) -> str:
    return f"{_ROOT}.2.{number}"


def patient_id(number: int) -> str:
    return f"P{number}"


def accession_number(number: int) -> str:
    return f"A{number}"


def names(number: int, study: int) -> tuple[bytes, ...]:
    """What tells one object from another: instance; study, series, patient, accession."""
    return tuple(
        name.encode()
        for name in (
            instance_uid(number),
            study_uid(study),
            series_uid(study),
            patient_id(study),
            accession_number(study),
        )
    )


_PLACES: Final = names(FIRST_NUMBER, FIRST_NUMBER)


@dataclass(frozen=True, slots=True)
class Template:
    """A Part 10 file, and where its data set starts."""

    sop_class_uid: str
    file: bytes

    @property
    def data_set(self) -> memoryview:
        return memoryview(self.file)[read_file_meta(self.file).data_set_offset :]


def image(side: int) -> Template:
    """A CT Image of *side* by *side* random pixels."""
    ds = _named()
    ds.Rows = ds.Columns = side
    return Template(CT, part_10(ds, EXPLICIT, os.urandom(2 * side * side)))


def multi_frame_file(frames: int) -> bytes:
    """A multi-frame object's file as far as its pixels, which are left out."""
    ds = _named()
    ds.SOPClassUID = MULTI_FRAME
    ds.NumberOfFrames = frames
    length = frames * FRAME_BYTES
    return part_10(ds, EXPLICIT, b"")[:-4] + length.to_bytes(4, "little")


def head_of_frames(frames: int) -> bytes:
    """The same without File Meta Information."""
    file = multi_frame_file(frames)
    return file[read_file_meta(file).data_set_offset :]


def _named() -> Dataset:
    ds = ct_image()
    instance, study, series, patient, accession = (name.decode() for name in _PLACES)
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = instance, study, series
    ds.PatientID, ds.AccessionNumber = patient, accession
    return ds


class StoreMessage:
    """A C-STORE-RQ with its data set as PDUs in one buffer, ready to be sent again and again."""

    def __init__(self, template: Template, context_id: int, max_length: int) -> None:
        data_set = encode_fragments(
            context_id, template.data_set, is_command=False, is_last=True, max_length=max_length
        )
        command = store_command(template.sop_class_uid, context_id, max_length)
        self.buffer = bytearray(b"".join([command, *data_set]))
        self._message_id = self.buffer.index(_MESSAGE_ID_HEADER) + len(_MESSAGE_ID_HEADER)
        self._places = [list(_occurrences(self.buffer, place)) for place in _PLACES]
        assert all(self._places)
        self._study = 0

    def name(self, number: int, study: int) -> None:
        """Make it the object *number* of *study*, under a Message ID of its own."""
        buffer = self.buffer
        message_id = number & 0xFFFF
        buffer[self._message_id : self._message_id + 2] = message_id.to_bytes(2, "little")
        for index, name in enumerate(names(number, study)):
            for place in self._places[index]:
                buffer[place : place + len(name)] = name
            if study == self._study:
                break  # all but the instance stand there already
        self._study = study


def store_command(sop_class_uid: str, context_id: int, max_length: int) -> bytes:
    """The command set of a C-STORE-RQ, as PDU; its names are those of the templates."""
    request = CStoreRequest(
        message_id=1,
        affected_sop_class_uid=sop_class_uid,
        affected_sop_instance_uid=_PLACES[0].decode(),
    )
    command = encode_message(request, True)
    return b"".join(
        encode_fragments(context_id, command, is_command=True, is_last=True, max_length=max_length)
    )


def renamed(data: bytes, number: int, study: int) -> bytes:
    """*data* of a template, as the object *number* of *study*."""
    for place, name in zip(_PLACES, names(number, study), strict=True):
        data = data.replace(place, name)
    return data


def write_files(folder: Path, template: Template, first: int, count: int) -> Path:
    """*count* Part 10 files for a client that reads files."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        (folder / f"{number}.dcm").write_bytes(renamed(template.file, number, first))
    return folder


def _occurrences(buffer: bytearray, wanted: bytes) -> Iterator[int]:
    position = buffer.find(wanted)
    while position >= 0:
        yield position
        position = buffer.find(wanted, position + 1)
