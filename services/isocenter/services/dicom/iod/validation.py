"""Validation of one object against its IOD (PS3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset.vr import EXPLICIT_LITTLE, Encoding
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.iod.attributes import Judge, condition_text
from isocenter.services.dicom.iod.conditions import is_true
from isocenter.services.dicom.iod.element_rules import judge_elements
from isocenter.services.dicom.iod.findings import (
    MAX_PLACES,
    Finding,
    Result,
    TooManyPlacesError,
)
from isocenter.services.dicom.iod.functional_groups import judge_functional_groups
from isocenter.services.dicom.iod.items import MAX_ELEMENTS, Item, ReadItems, read_items
from isocenter.services.dicom.iod.named_checks import families_by_prefix, family_of
from isocenter.services.dicom.iod.named_checks.family import Family
from isocenter.services.dicom.iod.object_rules import judge_object
from isocenter.services.dicom.iod.table import Iod, ModuleUse, iod_table

if TYPE_CHECKING:
    import pydicom

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
#: Of findings in objects for which there are no named checks.
GENERAL_PREFIX: Final = "IOD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for.

    Attributes:
        type_1, type_2, conditional: whether attributes of these types are.
        pixel_data: whether the checks of pixels are.
        specific: whether the named checks of a kind of object are.
        values: whether enumerated values, and VR, VM, lengths and spelling of each element, are.
        kind: prefix of the named checks that are run whatever its SOP class is, such as ``CT``;
            empty: those of its SOP class.
        is_strict: whether a warning makes an object invalid.
    """

    type_1: bool = True
    type_2: bool = True
    conditional: bool = True
    pixel_data: bool = True
    specific: bool = True
    values: bool = True
    kind: str = ""
    is_strict: bool = False

    @property
    def takes(self) -> frozenset[str]:
        """As `Judge` takes it."""
        return frozenset(
            sign
            for sign, wanted in (
                ("1", self.type_1), ("2", self.type_2), ("C", self.conditional), ("V", self.values)
            )
            if wanted
        )  # fmt: skip


DEFAULT_OPTIONS: Final = Options()


def validate_data_set(
    data: memoryview, encoding: Encoding, options: Options = DEFAULT_OPTIONS
) -> Result:
    """What is not as the standard has it in the data set *data*, inflated.

    It never raises because of what is in the data set, and its time and memory are bounded by
    `MAX_ELEMENTS` and `MAX_PLACES`.
    """
    return validate_items(read_items(data, encoding), options)


def validate_file(path: str | Path, options: Options = DEFAULT_OPTIONS) -> Result:
    """The same of a file.

    Raises:
        DataSetError, NotDicomError: it holds no data set.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file, open_data_set(file, tolerance=Tolerance.SALVAGE) as opened:
        read = read_items(opened.data, opened.encoding, dict(opened.forgiven))
        return validate_items(read, options)


def validate_pydicom(data_set: pydicom.Dataset, options: Options = DEFAULT_OPTIONS) -> Result:
    """The same of a data set of pydicom, which is written for that as explicit VR little endian.

    Raises:
        ValueError, TypeError …: pydicom cannot write it.
    """
    from io import BytesIO

    from pydicom.filebase import DicomIO
    from pydicom.filewriter import write_dataset

    target = BytesIO()
    stream = DicomIO(target)
    stream.is_implicit_VR, stream.is_little_endian = False, True
    write_dataset(stream, data_set)
    return validate_data_set(memoryview(target.getvalue()), EXPLICIT_LITTLE, options)


def validate_items(read: ReadItems, options: Options = DEFAULT_OPTIONS) -> Result:
    """The same of a data set that was read."""
    root = read.root
    uid = root.text(_SOP_CLASS_UID)
    result = Result(uid, root.text(_SOP_INSTANCE_UID), is_strict=options.is_strict)
    iod = iod_table().iod_of(uid)
    family = _family(root, options, is_known=iod is not None)
    result.prefix = GENERAL_PREFIX if family is None else family.prefix
    judge = Judge(result.prefix, result, options.takes)
    cut: list[Finding] = []
    try:
        _judge(judge, read, iod, family, options)
    except TooManyPlacesError:
        cut = [
            Finding(
                severity="warning", code=f"{result.prefix}-NOT-WHOLE",
                message=f"not all of it was judged: it breaks rules in {MAX_PLACES:,} places",
            )
        ]  # fmt: skip
    result.findings = [*judge.found.findings(), *cut]
    result.left_out = judge.found.left_out
    return result


def _judge(
    judge: Judge, read: ReadItems, iod: Iod | None, family: Family | None, options: Options
) -> None:
    root, result = read.root, judge.result
    _judge_reading(judge, read)
    if iod is None:
        _judge_unknown(judge, root, result.sop_class_uid)
    else:
        result.iod = iod.name
        for module in iod.modules:
            _judge_module(judge, root, module)
        judge_functional_groups(judge, root, iod)
    judge_object(judge, root, iod, pixel_data=options.pixel_data)
    if family is not None:
        family.check(judge, root, pixel_data=options.pixel_data, specific=options.specific)
    if options.values:
        for item in root.walk():
            judge_elements(judge, item)


def quick_check(root: Item, prefix: str = "") -> bool:
    """Whether SOP class, modality and the core attributes of an object are there.

    Args:
        prefix: of the kind of object that it has to be; empty: the one of its SOP class.

    Raises:
        KeyError: there is no such kind.
    """
    is_known = iod_table().iod_of(root.text(_SOP_CLASS_UID)) is not None
    family = families_by_prefix()[prefix] if prefix else family_of(root, is_known=is_known)
    return is_known if family is None else family.quick_check(root)


def _family(root: Item, options: Options, *, is_known: bool) -> Family | None:
    if options.kind:
        return families_by_prefix()[options.kind]
    return family_of(root, is_known=is_known)


def _judge_reading(judge: Judge, read: ReadItems) -> None:
    for what in read.forgiven:
        judge.add("error", "ENCODING", what, source="PS3.5 7")
    if read.repeated:
        judge.add(
            "error", "ENCODING-REPEATED",
            f"{read.repeated} elements are there more than once in their data set or item",
            source="PS3.5 7.1",
        )  # fmt: skip
    if not read.is_whole:
        judge.add(
            "warning", "NOT-WHOLE",
            f"not all of it was judged: it cannot be read on, or has more than {MAX_ELEMENTS:,} "
            "elements",
        )  # fmt: skip


def _judge_unknown(judge: Judge, root: Item, uid: str) -> None:
    if not uid:
        judge.add(
            "error", "SOP-CLASS-MISSING", "has no SOP class, so that its IOD is not known",
            item=root, tag=_SOP_CLASS_UID, source="SOP Common",
        )  # fmt: skip
    else:
        judge.add(
            "warning", "SOP-CLASS-UNKNOWN",
            "the table has no IOD of this SOP class: only its elements are judged",
            item=root, tag=_SOP_CLASS_UID, source="PS3.4 B.5",
        )  # fmt: skip


def _judge_module(judge: Judge, root: Item, module: ModuleUse) -> None:
    source = f"module {module.name}"
    if not module.rows:
        judge.result.leave_open(source, "the sources of the table do not have its attributes")
        return
    if module.usage != "M" and not _is_used(judge, root, module, source):
        return
    judge.rows(module.rows, root, source)


def _is_used(judge: Judge, root: Item, module: ModuleUse, source: str) -> bool:
    """Whether a module that may be absent is there; whether it had to be is said here."""
    is_there = any(_has(root, tag) for tag in module.own)
    if is_there or module.usage == "U" or "C" not in judge.takes:
        return is_there
    if module.condition is None:
        judge.result.leave_open(f"module {module.name}", "usage C")
        return False
    if is_true(module.condition.required, root):
        if any(row.type[0] == "1" and _has(root, row.tag) for row in module.rows):
            return True  # what it shares with others is there
        judge.add(
            "error", "MODULE-MISSING",
            f"the module {module.name} is missing: {condition_text(module.condition.required)}",
            source=source,
        )  # fmt: skip
    return False


def _has(root: Item, tag: int) -> bool:
    if tag >> 16 not in (0x6000, 0x5000):
        return tag in root.elements
    return any(
        tag >> 16 <= each >> 16 <= (tag >> 16) + 0x1E and each & 0xFFFF == tag & 0xFFFF
        for each in root.elements
    )
