"""Studies as remote nodes tell of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid

if TYPE_CHECKING:
    import pydicom


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStudy:
    """A study that a node says it has, as text; empty: it does not say."""

    study_instance_uid: str
    study_date: str = ""
    study_description: str = ""
    accession_number: str = ""
    modalities: str = ""
    instances: str = ""
    patient_name: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)


_KEYWORDS: Final = {
    "study_instance_uid": "StudyInstanceUID",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
    "accession_number": "AccessionNumber",
    "modalities": "ModalitiesInStudy",
    "instances": "NumberOfStudyRelatedInstances",
    "patient_name": "PatientName",
    "patient_id": "PatientID",
}


def question(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keys that ask for all that a `RemoteStudy` has, and match *keys*."""
    return [*((keyword, "") for keyword in _KEYWORDS.values()), *keys]


def remote_study(match: pydicom.Dataset) -> RemoteStudy | None:
    """The study that a match tells of; None: it has no Study Instance UID."""
    texts = {name: text_in(match, word) for name, word in _KEYWORDS.items()}
    return RemoteStudy(**texts) if is_uid(texts["study_instance_uid"]) else None


def text_in(match: pydicom.Dataset, keyword: str) -> str:
    """The value of an attribute as text, of several all; empty: it has none.

    Raises:
        DataSetError: it is none of its VR.
    """
    try:
        return ", ".join(_texts(match.get(keyword)))
    except Exception as error:
        # pydicom decodes when it is asked, and raises whatever its parts do.
        raise DataSetError(f"{keyword} cannot be read ({type(error).__name__})", 0) from error


def _texts(value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from map(str, value)
    else:
        yield str(value).rstrip("\0 ")
