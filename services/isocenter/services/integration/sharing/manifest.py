"""Manifest of a study, for others to find it and have it sent.

Of this one value come a Key Object Selection, a FHIR ImagingStudy and the metadata of a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from typing import Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass

#: Instances of one manifest; more would be a document of some 100 MB.
MOST_INSTANCES: Final = 100_000


class ManifestError(IsocenterError):
    """A study of which no manifest can be made; the message says why."""

    error_code = ErrorCode.SHARING


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestInstance:
    """An instance.

    Attributes:
        number, frames: None: the object does not say.
    """

    sop_instance_uid: str
    sop_class_uid: str
    number: int | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSeries:
    """A series with its instances; texts are empty where objects do not say.

    Attributes:
        date, time: as DA and TM.
    """

    series_instance_uid: str
    modality: str = ""
    number: int | None = None
    description: str = ""
    body_part: str = ""
    laterality: str = ""
    date: str = ""
    time: str = ""
    instances: tuple[ManifestInstance, ...] = ()
    instance_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestPatient:
    """Whose study it is, as the archive says it.

    Attributes:
        name: as a PN, with all its component groups.
    """

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssigningAuthorities:
    """Who gives identifiers, as OIDs that are known beyond the archive.

    Attributes:
        patient_ids: of Patient IDs without an issuer; empty: nobody is known.
        by_issuer: Issuer of Patient ID (0010,0021) → OID.
        accession_numbers: of Accession Numbers; empty: nobody is known.
    """

    patient_ids: str = ""
    by_issuer: Mapping[str, str] = field(default_factory=dict)
    accession_numbers: str = ""

    @property
    def is_anybody_known(self) -> bool:
        """Whether others know of any patient who gave the Patient ID."""
        return bool(self.patient_ids or self.by_issuer)

    def of_patient(self, issuer: str) -> str:
        """The OID of who gives the Patient IDs of an issuer; empty: nobody knows."""
        return self.by_issuer.get(issuer, "") if issuer else self.patient_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Where the instances can be had; empty: not that way.

    Attributes:
        wado_rs: base of a DICOMweb service, as ``https://archive.example/dicomweb``.
        location_uid: of this archive, Retrieve Location UID (0040,E011).
        ae_title: for C-MOVE.
    """

    wado_rs: str = ""
    location_uid: str = ""
    ae_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyManifest:
    """A study.

    Attributes:
        date, time: as DA and TM.
        institution: where it was made, as its first series says it.
    """

    study_instance_uid: str
    patient: ManifestPatient
    date: str = ""
    time: str = ""
    accession_number: str = ""
    study_id: str = ""
    description: str = ""
    referring_physician: str = ""
    institution: str = ""
    series: tuple[ManifestSeries, ...] = ()
    retrieval: Retrieval = field(default_factory=Retrieval)
    authorities: AssigningAuthorities = field(default_factory=AssigningAuthorities)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of its series, each once, in their order."""
        return tuple(dict.fromkeys(one.modality for one in self.series if one.modality))

    @property
    def patient_authority(self) -> str:
        """The OID of who gave the Patient ID.

        Raises:
            ManifestError: nobody outside would know whose the study is.
        """
        if not self.patient.patient_id:
            raise ManifestError("the study has no Patient ID: nobody outside would find it")
        oid = self.authorities.of_patient(self.patient.issuer)
        if not oid:
            raise ManifestError(
                "nobody outside knows who gave the Patient ID: set sharing.patient_authority, and "
                "sharing.issuers for IDs with an issuer"
            )
        return oid

    @property
    def instance_count(self) -> int:
        return sum(one.instance_count for one in self.series)

    def instances(self) -> Iterator[tuple[ManifestSeries, ManifestInstance]]:
        """Each instance with its series."""
        for series in self.series:
            for instance in series.instances:
                yield series, instance

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says: two that are the same say the same."""
        whole = orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(whole).hexdigest()
