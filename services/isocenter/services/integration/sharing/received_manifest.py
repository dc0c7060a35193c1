"""Manifest that somebody else has made, read from its Key Object Selection (PS3.3 A.35.4)."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Final

from isocenter.engine.dataset import DataSetError, NotDicomError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.dicom.data_set import DataSet
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.integration.sharing.key_object_manifest import KEY_OBJECT_SELECTION
from isocenter.services.integration.sharing.manifest import MOST_INSTANCES, ManifestError

#: Bytes of a manifest.
MOST_BYTES: Final = 256 << 20
_EVIDENCE: Final = "CurrentRequestedProcedureEvidenceSequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSeries:
    """A series, and where its instances can be had; empty: not that way."""

    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]
    wado_rs: str = ""
    location_uid: str = ""
    ae_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedManifest:
    """What a manifest names."""

    document_uid: str
    study_instance_uid: str
    series: tuple[ReceivedSeries, ...]

    @property
    def instance_count(self) -> int:
        return sum(len(one.sop_instance_uids) for one in self.series)


def read_manifest(content: bytes) -> ReceivedManifest:
    """The manifest in a Part 10 file.

    Raises:
        ManifestError: it is something else, names nothing, or more than one study.
    """
    if len(content) > MOST_BYTES:
        raise ManifestError(f"the manifest has more than {MOST_BYTES >> 20} MiB")
    try:
        with TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            with open_data_set(file) as opened:
                return _read(DataSet(opened))
    except (NotDicomError, DataSetError) as error:
        raise ManifestError(f"the manifest cannot be read: {error}") from error


def _read(found: DataSet) -> ReceivedManifest:
    if found.text("SOPClassUID").strip() != KEY_OBJECT_SELECTION:
        raise ManifestError("the document is no Key Object Selection")
    studies = found.items(_EVIDENCE)
    if studies != 1:
        raise ManifestError(
            "the manifest names no study" if not studies else "the manifest names several studies"
        )
    study = f"{_EVIDENCE}[0]"
    series = tuple(_series(found, study))
    manifest = ReceivedManifest(
        document_uid=_uid(found, "SOPInstanceUID"),
        study_instance_uid=_uid(found, f"{study}.StudyInstanceUID"),
        series=series,
    )
    if not manifest.instance_count:
        raise ManifestError("the manifest names no instances")
    return manifest


def _series(found: DataSet, study: str) -> Iterator[ReceivedSeries]:
    left = MOST_INSTANCES
    for number in range(found.items(f"{study}.ReferencedSeriesSequence")):
        series = f"{study}.ReferencedSeriesSequence[{number}]"
        count = found.items(f"{series}.ReferencedSOPSequence")
        left -= count
        if left < 0:
            raise ManifestError(f"the manifest names more than {MOST_INSTANCES} instances")
        yield ReceivedSeries(
            series_instance_uid=_uid(found, f"{series}.SeriesInstanceUID"),
            sop_instance_uids=tuple(
                _uid(found, f"{series}.ReferencedSOPSequence[{one}].ReferencedSOPInstanceUID")
                for one in range(count)
            ),
            wado_rs=found.text(f"{series}.RetrieveURL").strip(),
            location_uid=found.text(f"{series}.RetrieveLocationUID").strip(),
            ae_title=found.text(f"{series}.RetrieveAETitle").strip(),
        )


def _uid(found: DataSet, path: str) -> str:
    uid = found.text(path).strip(" \0")
    if not is_safe_uid(uid):
        raise ManifestError(f"{path.rpartition('.')[2]} is missing or no UID")
    return uid
