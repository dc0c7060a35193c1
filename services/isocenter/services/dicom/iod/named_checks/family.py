"""Family of SOP classes with named checks, and what such checks are written with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import isfinite
from typing import TYPE_CHECKING, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.iod.findings import Severity
from isocenter.services.dicom.iod.items import Item

if TYPE_CHECKING:
    from isocenter.services.dicom.iod.attributes import Judge

STORAGE: Final = "1.2.840.10008.5.1.4.1.1."

SOP_CLASS_UID: Final = 0x00080016
MODALITY: Final = 0x00080060
IMAGE_TYPE: Final = 0x00080008
SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC: Final = 0x00280004
NUMBER_OF_FRAMES: Final = 0x00280008
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
PIXEL_DATA: Final = 0x7FE00010
SHARED_GROUPS: Final = 0x52009229
PER_FRAME_GROUPS: Final = 0x52009230
MONOCHROME: Final = frozenset(("MONOCHROME1", "MONOCHROME2"))
NOT_CHECKED: Final = ("", frozenset[str]())


class Checks:
    """The named checks of one object: what they ask, and how they say it.

    Attributes:
        root: the data set.
    """

    def __init__(self, judge: Judge, root: Item) -> None:
        self._judge = judge
        self.root = root

    def say(self, code: str, message: str, tag: int, item: Item | None = None) -> None:
        """A finding; ``ERR``, ``WARN`` and ``INFO`` in *code* say how severe."""
        severity: Severity = "error"
        if "WARN" in code:
            severity = "warning"
        elif "INFO" in code:
            severity = "info"
        self._judge.add(severity, code, message, item=item or self.root, tag=tag)

    def is_there(self, *tags: int, item: Item | None = None) -> bool:
        """Whether one of *tags* is there, with a value."""
        where = item or self.root
        return any(
            (element := where.elements.get(tag)) is not None and not element.is_empty
            for tag in tags
        )

    def needs(self, code: str, tag: int, message: str, item: Item | None = None) -> None:
        """Say *message* if *tag* is not there, or empty."""
        if not self.is_there(tag, item=item):
            self.say(code, message, tag, item)

    def among(
        self, code: str, tag: int, allowed: Collection[str], number: int = 1,
        item: Item | None = None,
    ) -> None:  # fmt: skip
        """Say so if value *number* is there and is none of *allowed*."""
        value = (item or self.root).text(tag, number)
        if value and value not in allowed:
            names = ", ".join(sorted(allowed))
            what = f"is none of {names}" if len(allowed) > 1 else f"is not {names}"
            self.say(code, what, tag, item)

    def number(self, tag: int, place: int = 1, item: Item | None = None) -> float | None:
        """Value *place* as a number; None: it is none, or one that nobody can count to."""
        text = (item or self.root).text(tag, place)
        try:
            found = float(text)
        except ValueError:
            return None
        return found if isfinite(found) else None

    @property
    def is_enhanced(self) -> bool:
        """Whether it has functional groups, in which geometry and timing are."""
        return bool(self.root.items(SHARED_GROUPS) or self.root.items(PER_FRAME_GROUPS))

    @property
    def frames(self) -> int:
        """Number of Frames; 1 where nobody says it."""
        return int(self.number(NUMBER_OF_FRAMES) or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """SOP classes that are checked in the same way.

    Codes are without the prefix; an empty one is not checked.

    Attributes:
        modalities: that Modality may have; none: any.
        sop_class, modality, bits, high_bit: codes of these checks.
        photometric, samples: code, and what is allowed.
        more: the checks that are this family's alone.
        core: attributes that the quick check asks for.
    """

    prefix: str
    sop_classes: frozenset[str]
    modalities: frozenset[str] = frozenset()
    sop_class: str = ""
    modality: str = ""
    bits: str = ""
    high_bit: str = ""
    photometric: tuple[str, frozenset[str]] = NOT_CHECKED
    samples: tuple[str, frozenset[str]] = NOT_CHECKED
    more: Callable[[Checks], None] | None = None
    core: tuple[int, ...] = ()

    def check(self, judge: Judge, root: Item, *, pixel_data: bool, specific: bool) -> None:
        """Run the checks."""
        checks = Checks(judge, root)
        if root.text(SOP_CLASS_UID) not in self.sop_classes:
            checks.say(self.sop_class, "is no SOP class of this kind of object", SOP_CLASS_UID)
        if self.modalities:
            checks.among(self.modality, MODALITY, self.modalities)
        if pixel_data:
            self._check_pixels(checks)
        if specific and self.more is not None:
            self.more(checks)

    def quick_check(self, root: Item) -> bool:
        """Whether SOP class, modality and the core attributes are as they have to be."""
        if root.text(SOP_CLASS_UID) not in self.sop_classes:
            return False
        if self.modalities and root.text(MODALITY) not in self.modalities:
            return False
        return all(root.text(tag) or root.items(tag) for tag in self.core)

    def _check_pixels(self, checks: Checks) -> None:
        allocated = checks.number(BITS_ALLOCATED)
        stored = checks.number(BITS_STORED)
        high = checks.number(HIGH_BIT)
        if self.bits and allocated is not None and stored is not None and stored > allocated:
            checks.say(self.bits, "is more than Bits Allocated", BITS_STORED)
        if self.high_bit and stored is not None and high is not None and high != stored - 1:
            checks.say(self.high_bit, "is not one less than Bits Stored", HIGH_BIT)
        for (code, allowed), tag in (
            (self.photometric, PHOTOMETRIC),
            (self.samples, SAMPLES_PER_PIXEL),
        ):
            if code:
                checks.among(code, tag, allowed)


def storage(*numbers: str) -> frozenset[str]:
    """Storage SOP class UIDs, by what follows their root."""
    return frozenset(STORAGE + number for number in numbers)
