"""Filters of lists, as parameters of requests, and what they ask of the index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.net.http.routing import Parameter

_DAY: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_DAY_PATTERN: Final = "[0-9]{4}-?[0-9]{2}-?[0-9]{2}"
#: Filters by their names: the keyword that each asks for.
PATIENT_FILTERS: Final = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
}
STUDY_FILTERS: Final = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "study_uid": "StudyInstanceUID",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "accession_number": "AccessionNumber",
    "modality": "ModalitiesInStudy",
    "referring_physician": "ReferringPhysicianName",
    "study_description": "StudyDescription",
}
_DAYS: Final = frozenset(("birth_date", "study_date"))


def filter_parameters(known: Mapping[str, str]) -> tuple[Parameter, ...]:
    """Filters as parameters of a route."""
    found = []
    for name, keyword in known.items():
        if name in _DAYS:
            for one, text in ((name, ""), (f"{name}_from", " from"), (f"{name}_to", " until")):
                found.append(
                    Parameter(name=one, text=f"{keyword}{text}: 2026-11-30.", pattern=_DAY_PATTERN)
                )
        else:
            found.append(
                Parameter(name=name, text=f"{keyword}, with * and ? for what you do not know.")
            )
    return tuple(found)


def search_parameters(request: Request, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """The filters of a request, as a search over DICOMweb has them."""
    found = []
    for name, keyword in known.items():
        said = request.parameter(name) or ""
        if name in _DAYS:
            said = _days(request, name)
        if said:
            found.append((keyword, said))
    return found


def _days(request: Request, name: str) -> str:
    one, first, last = (_day(request, f"{name}{end}") for end in ("", "_from", "_to"))
    if one and (first or last):
        raise HttpError(
            400, "INVALID_REQUEST", f"{name} is one day, {name}_from and _to are several: say one"
        )
    return one or (f"{first}-{last}" if first or last else "")


def _day(request: Request, name: str) -> str:
    said = request.parameter(name) or ""
    if not said:
        return ""
    found = _DAY.fullmatch(said)
    if found is None:
        raise HttpError(400, "INVALID_REQUEST", f"{name}: write a day as 2026-11-30")
    return "".join(found.groups())
