"""Section of sharing: what others are told of studies, and by which identifiers."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.net.http.client import checked_base
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import setting
from isocenter.services.settings.repositories import RepositoriesKind


def _is_base(text: str) -> bool:
    if not text:
        return True
    try:
        checked_base(text)
    except ValueError:
        return False
    return True


def _is_issuer(text: str) -> bool:
    issuer, _, oid = text.rpartition("=")
    return bool(issuer.strip()) and issuer.isprintable() and is_uid(oid.strip())


_BASE = kinds.Text("an address as https://archive.example/dicomweb, or nothing", _is_base)
_OID = kinds.Text("an OID, or nothing", lambda text: text == "" or is_uid(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingSettings:
    """FHIR, and manifests of studies for others (XDS-I.b, MHD)."""

    fhir: bool = setting(
        True,
        kinds.Boolean(),
        "answer FHIR searches for ImagingStudy and Patient (/fhir/r4, /fhir/r5), beside DICOMweb",
    )
    wado_rs: str = setting(
        "",
        _BASE,
        "address of DICOMweb as those reach it who are told of studies; unset: web.public_root, or "
        "the one that a request asked for",
    )
    location_uid: str = setting(
        "", _OID, "Retrieve Location UID (0040,E011) of this archive; empty: none is told"
    )
    patient_authority: str = setting(
        "", _OID, "OID of who assigns Patient IDs that name no issuer; empty: nobody is named"
    )
    accession_authority: str = setting(
        "", _OID, "OID of who assigns Accession Numbers; empty: nobody is named"
    )
    issuers: tuple[str, ...] = setting(
        (),
        kinds.ListOf(kinds.Text("ISSUER=OID", _is_issuer)),
        "OIDs by which others know an Issuer of Patient ID (0010,0021)",
    )
    repositories: tuple[Repository, ...] = setting(
        (),
        RepositoriesKind(),
        "repositories that get manifests of studies: [[sharing.repositories]]",
    )

    @property
    def oids_by_issuer(self) -> dict[str, str]:
        """The issuers, taken apart."""
        pairs = (text.rpartition("=") for text in self.issuers)
        return {issuer.strip(): oid.strip() for issuer, _, oid in pairs}
