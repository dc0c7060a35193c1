"""Summary of a DICOM file: what it is, whose, and its pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    encoding_of,
    index_frames,
    map_of,
)
from isocenter.engine.dataset.walker import VALUE
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.element_texts import numbers_of
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import DESCRIBING, ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES, decoding_of
from isocenter.services.dicom.scoped_walk import scoped_walk
from isocenter.services.dicom.uid_registry import name_of

#: Section → tag → name of the field, and whether it is one of the basic ones.
_FIELDS: Final[Mapping[str, Mapping[int, tuple[str, bool]]]] = {
    "Patient": {
        0x00100010: ("Name", True), 0x00100020: ("ID", True), 0x00100030: ("Birth date", True),
        0x00100040: ("Sex", True), 0x00101010: ("Age", False), 0x00101030: ("Weight", False),
        0x00100021: ("Issuer of ID", False),
    },
    "Study": {
        0x00080020: ("Date", True), 0x00080030: ("Time", True), 0x00081030: ("Description", True),
        0x00080050: ("Accession number", True), 0x0020000D: ("UID", True),
        0x00200010: ("ID", False), 0x00080090: ("Referring physician", False),
        0x00080080: ("Institution", False),
    },
    "Series": {
        0x00080060: ("Modality", True), 0x00200011: ("Number", True),
        0x0008103E: ("Description", True), 0x0020000E: ("UID", True),
        0x00180015: ("Body part", False), 0x00181030: ("Protocol", False),
        0x00080070: ("Manufacturer", False), 0x00081090: ("Model", False),
        0x00081010: ("Station", False), 0x00080021: ("Date", False), 0x00080031: ("Time", False),
        0x00185100: ("Patient position", False), 0x00200052: ("Frame of reference UID", False),
    },
    "Image": {
        0x00200013: ("Number", True), 0x00080008: ("Type", False),
        0x00280030: ("Pixel spacing", True), 0x00181164: ("Imager pixel spacing", False),
        0x00180050: ("Slice thickness", True), 0x00180088: ("Spacing between slices", False),
        0x00200032: ("Position", False), 0x00200037: ("Orientation", False),
        0x00201041: ("Slice location", False), 0x00281050: ("Window center", False),
        0x00281051: ("Window width", False), 0x00281053: ("Rescale slope", False),
        0x00281052: ("Rescale intercept", False), 0x00282110: ("Lossy", True),
        0x00282112: ("Lossy ratio", False), 0x00282114: ("Lossy method", False),
    },
}  # fmt: skip
_PLACES: Final = {
    tag: (section, *field) for section, fields in _FIELDS.items() for tag, field in fields.items()
}
#: Geometry that multi-frame images have in functional groups (PS3.3 C.7.6.16).
_GROUPS: Final = frozenset((0x52009229, 0x52009230))
_GROUPED: Final = frozenset(
    (0x00280030, 0x00180050, 0x00180088, 0x00200037, 0x00281050, 0x00281051)
)
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_ORIENTATION: Final = 0x00200037
_LONGEST: Final = 4096
_NUMBERS: Final = frozenset(("FD", "FL", "SL", "SS", "UL", "US"))
_COSINES: Final = 6
#: Compression ratios above are shown without decimals.
_ROUND: Final = 100

Value = str | int | float
#: Name of a field → its value.
Section = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSummary:
    """What a file is.

    Attributes:
        sections: File, Patient, Study, Series, Image; those of which nothing is known are empty.
        basic: names of the basic fields of each.
    """

    sections: dict[str, Section]
    basic: Mapping[str, frozenset[str]]

    def get(self, section: str, name: str) -> str:
        """A field as text; empty where it is not known."""
        return str(self.sections.get(section, {}).get(name, ""))


def summarize(file: DataSetFile, path: str, size: int) -> FileSummary:
    """The summary of an open file of *size* bytes.

    What was forgiven is added to `DataSetFile.forgiven`.
    """
    found = _texts(file)
    syntax = file.head.transfer_syntax_uid
    meta = file.head.meta
    sop_class = found.pop(_SOP_CLASS_UID, "") or (meta.media_storage_sop_class_uid if meta else "")
    sop_instance = found.pop(_SOP_INSTANCE_UID, "")
    sections: dict[str, Section] = {
        "File": {
            "Path": path,
            "Size": size,
            "Transfer syntax": name_of(syntax),
            "Transfer syntax UID": syntax,
            "SOP class": name_of(sop_class) if sop_class else "",
            "SOP class UID": sop_class,
            "SOP instance UID": sop_instance,
        }
    }
    if meta is None:
        sections["File"]["File Meta Information"] = "none"
    elif written_by := meta.elements.get(0x00020013, b"").decode("ascii", "replace").strip(" \0"):
        sections["File"]["Written by"] = written_by
    for section, fields in _FIELDS.items():
        sections[section] = {
            name: found[tag] for tag, (name, _) in fields.items() if found.get(tag)
        }
    sections["Image"] = _pixels(file) | sections["Image"]
    plane = _plane(found.get(_ORIENTATION, ""))
    if plane:
        sections["Image"]["Plane"] = plane
    basic = {
        "File": frozenset(("Path", "Size", "Transfer syntax", "SOP class")),
        "Image": frozenset(("Pixels", "Frames", "Compression")),
    }
    for section, fields in _FIELDS.items():
        names = frozenset(name for name, is_basic in fields.values() if is_basic)
        basic[section] = basic.get(section, frozenset()) | names
    return FileSummary(
        sections={name: _without_empty(section) for name, section in sections.items()}, basic=basic
    )


def _without_empty(section: Section) -> Section:
    return {name: value for name, value in section.items() if value != ""}


def _texts(file: DataSetFile) -> dict[int, str]:
    """The first value of each attribute that is shown, also of functional groups."""
    found: dict[int, str] = {}
    wanted = _PLACES.keys() | {_SOP_CLASS_UID, _SOP_INSTANCE_UID}
    for placed in scoped_walk(file.data, file.encoding, forgiven=file.forgiven):
        tag, path = placed.tag, placed.path
        if placed.kind != VALUE:
            continue
        is_wanted = tag in wanted if not path else path[0][0] in _GROUPS and tag in _GROUPED
        if not is_wanted or tag in found or placed.end - placed.start > _LONGEST:
            continue
        raw = bytes(file.data[placed.start : placed.end])
        if placed.vr in _NUMBERS:
            text = "\\".join(numbers_of(raw, placed.vr, big_endian=placed.codec.big_endian))
        else:
            text = decode_text(raw, placed.vr, placed.scope.character_set)
        if text:
            found[tag] = text
    return found


def _pixels(file: DataSetFile) -> Section:
    """How the pixels are laid out, and compressed."""
    encoding = EXPLICIT_LITTLE if file.is_inflated else file.encoding
    try:
        found = map_of(file.data, encoding, DESCRIBING)
        element = found.pixel_data
        if element is None:
            return {}
        image = ImageDescription.of(found, big_endian=encoding.big_endian)
    except ImageError as error:
        return {"Pixels": f"cannot be told: {error}"}
    except DataSetError:
        return {}  # it was said already
    samples = image.samples_per_pixel
    section: Section = {
        "Pixels": f"{image.columns} × {image.rows}, {samples} "
        f"sample{'s' if samples > 1 else ''} of {image.bits_stored} bits"
        f" in {image.bits_allocated}, "
        + ("floating point" if image.is_float else "signed" if image.is_signed else "unsigned"),
        "Columns": image.columns,
        "Rows": image.rows,
        "Samples": samples,
        "Bits allocated": image.bits_allocated,
        "Bits stored": image.bits_stored,
        "Photometric interpretation": image.photometric_interpretation,
    }
    try:
        index = index_frames(
            found, number_of_frames=image.number_of_frames, frame_bits=image.frame_bits
        )
        frames = len(index)
    except DataSetError as error:
        section["Frames"] = f"cannot be told apart: {error.fault}"
        frames = image.number_of_frames or 1
    else:
        section["Frames"] = frames
    length = element.end - element.value
    section["Pixel data"] = length
    if element.fragments is not None:
        section["Fragments"] = len(element.fragments)
        length = sum(end - start for start, end in _spans(file, element.value, element.end))
        known = PIXEL_SYNTAXES.get(file.head.transfer_syntax_uid)
        if length and known is not None and known.codec is not None:
            ratio = image.frame_length * frames / length
            section["Compression"] = f"{ratio:.{0 if ratio > _ROUND else 1}f} : 1"
        section["Decoded here"] = decoding_of(file.head.transfer_syntax_uid).value
    return section


def _spans(file: DataSetFile, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the fragments lie, without the offset table."""
    header = 8
    data = file.data
    big_endian = encoding_of(file.head.transfer_syntax_uid).big_endian
    order: Literal["big", "little"] = "big" if big_endian else "little"
    at, number = start, 0
    while at + header <= end:
        length = int.from_bytes(data[at + 4 : at + header], order)
        if bytes(data[at : at + 4]) != b"\xfe\xff\x00\xe0":
            return
        at += header
        if number:
            yield at, min(at + length, end)
        at += length
        number += 1


def _plane(orientation: str) -> str:
    """The plane that Image Orientation (Patient) is nearest to."""
    try:
        cosines = [float(value) for value in orientation.split("\\")]
    except ValueError:
        return ""
    if len(cosines) != _COSINES:
        return ""
    row, column = cosines[:3], cosines[3:]
    normal = [
        abs(row[1] * column[2] - row[2] * column[1]),
        abs(row[2] * column[0] - row[0] * column[2]),
        abs(row[0] * column[1] - row[1] * column[0]),
    ]
    largest = max(normal)
    if not largest > 0:
        return ""
    name = ("sagittal", "coronal", "axial")[normal.index(largest)]
    return name if largest > _NEARLY else f"oblique, near {name}"


_NEARLY: Final = 0.99


class FolderSummary:
    """Counts of files, by what they are.

    Attributes:
        files, size: of those that are DICOM, and bytes of all of them.
    """

    def __init__(self) -> None:
        self.files = 0
        self.size = 0
        self._patients: set[str] = set()
        self._instances: set[str] = set()
        #: Study → its date and description, and series → modality and count.
        self._studies: dict[str, tuple[str, dict[str, tuple[str, int]]]] = {}
        self._by: dict[str, dict[str, int]] = {
            "Modality": {}, "SOP class": {}, "Transfer syntax": {},
        }  # fmt: skip

    def add(self, summary: FileSummary) -> None:
        """Count one more."""
        get = summary.get
        self.files += 1
        self.size += int(get("File", "Size") or 0)
        for section, name in (
            ("Series", "Modality"), ("File", "SOP class"), ("File", "Transfer syntax"),
        ):  # fmt: skip
            value = get(section, name) or "(none)"
            self._by[name][value] = self._by[name].get(value, 0) + 1
        if not get("Study", "UID"):
            return  # a DICOMDIR, say
        self._patients.add(get("Patient", "ID"))
        self._instances.add(get("File", "SOP instance UID"))
        title = " ".join(filter(None, (get("Study", "Date"), get("Study", "Description"))))
        _, series = self._studies.setdefault(get("Study", "UID"), (title, {}))
        modality, count = series.get(get("Series", "UID"), (get("Series", "Modality"), 0))
        series[get("Series", "UID")] = (modality, count + 1)

    @property
    def counts(self) -> dict[str, int]:
        """Of files; and of patients, studies, series and distinct instances in them."""
        return {
            "Files": self.files,
            "Bytes": self.size,
            "Patients": len(self._patients),
            "Studies": len(self._studies),
            "Series": sum(len(series) for _, series in self._studies.values()),
            "Instances": len(self._instances),
        }

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """What is counted by → value → files, the most first."""
        return {
            name: dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
            for name, counts in self._by.items()
        }

    def studies(self) -> Iterator[tuple[str, str, dict[str, tuple[str, int]]]]:
        """UID, title, and series UID → modality and files, of each study."""
        for uid, (title, series) in self._studies.items():
            yield uid, title, series
