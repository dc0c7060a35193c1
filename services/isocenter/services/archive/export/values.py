"""Requests for an export and their results, as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.dicom.pixels.transcoding import TranscodingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedStudy:
    """What is to be said of some objects of one study in the audit trail.

    Attributes:
        sop_classes: how many objects of each.
        actor: who has them exported.
        place: where to: a URI, for the trail only.
        access_point: the address of who has them exported; empty: this machine.
        is_whole: whether all of them have left; a download may be cut.
    """

    study_instance_uid: str
    sop_classes: Mapping[str, int]
    actor: str
    place: str
    access_point: str = ""
    is_whole: bool = True


#: Has it recorded before anybody sees what was exported; what it raises ends the export.
ExportRecorder = Callable[[Sequence[ExportedStudy]], Awaitable[None]]


async def record_no_export(studies: Sequence[ExportedStudy]) -> None:
    """For archives without an audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How objects are exported.

    Attributes:
        transfer_syntax_uid: what they become; empty: they stay as they are.  What has no pixels
            stays uncompressed in any case.
        allowed: transfer syntaxes that may be; what has another one becomes explicit VR little
            endian; empty: any.
        transcoding: how, where pixels are encoded anew.
        project: under which objects are de-identified; empty: they are not.
        leaves_out: what cannot be read or converted is left out, and the others are exported;
            else nothing is.
    """

    transfer_syntax_uid: str = ""
    allowed: tuple[str, ...] = ()
    transcoding: TranscodingOptions = TranscodingOptions()
    leaves_out: bool = False
    project: str = ""


@dataclass(slots=True)
class Exported:
    """What was exported.

    Attributes:
        size: bytes of files.
        left_out: SOP Instance UIDs of what could not be read or converted, with the reason.
    """

    instances: int = 0
    size: int = 0
    left_out: CountedFindings = field(default_factory=CountedFindings)
