"""CapabilityStatement: what the FHIR service answers, made from the tables it answers by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from isocenter.services.integration.sharing.fhir_values import FhirRelease, Json
from isocenter.services.web.fhir.answers import FHIR_JSON

#: Parameter → its type, and what it is matched with.
_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "_id": ("token", "id of the resource"),
    "identifier": ("token", "Study Instance UID or Accession Number; Patient ID"),
    "patient": ("reference", "the patient"),
    "subject": ("reference", "the patient"),
    "started": ("date", "Study Date and Time"),
    "modality": ("token", "Modalities in Study"),
    "series": ("token", "Series Instance UID"),
    "instance": ("token", "SOP Instance UID"),
    "dicom-class": ("uri", "SOP Classes in Study"),
    "status": ("token", "all studies are available"),
    "name": ("string", "any part of the name"),
    "family": ("string", "beginning of the family name"),
    "given": ("string", "beginning of a given name"),
    "birthdate": ("date", "Patient's Birth Date"),
    "gender": ("token", "Patient's Sex"),
}


def capability_statement(
    release: FhirRelease,
    *,
    base: str,
    version: str,
    date: str,
    parameters: Mapping[str, Iterable[str]],
) -> Json:
    """The resource.

    Args:
        version: of this program.
        date: since when it says this.
        parameters: type of resources → names of search parameters.
    """
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "Isocenter", "version": version},
        "implementation": {"description": "Imaging studies of a DICOM archive", "url": base},
        "fhirVersion": release.version,
        "format": [FHIR_JSON],
        "rest": [
            {
                "mode": "server",
                "documentation": "Studies and patients as the index of the archive has them, to "
                "be read. Instances are had by WADO-RS, from the endpoint of a study.",
                "resource": [_resource(kind, names) for kind, names in parameters.items()],
            }
        ],
    }


def _resource(kind: str, names: Iterable[str]) -> Json:
    searched = [name for name in names if name in _TYPES]
    found: Json = {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        "searchParam": [
            {"name": name, "type": _TYPES[name][0], "documentation": _TYPES[name][1]}
            for name in searched
        ],
    }
    if "_include" in names:
        found["searchInclude"] = ["ImagingStudy:subject"]
    return found
