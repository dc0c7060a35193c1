"""FHIR searches for ImagingStudy and Patient, as queries of the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import tzinfo
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Query,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.integration.sharing.fhir_values import (
    DCM,
    DICOM_UID,
    is_oid,
    read_patient_key,
    uid_of,
    uid_urn,
)
from isocenter.services.integration.sharing.manifest import AssigningAuthorities
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.fhir.search_values import (
    Token,
    bad,
    period,
    references,
    tokens,
    unescaped,
    values_of,
    wild,
)

DEFAULT_COUNT: Final = 20
MOST_COUNT: Final = 100
#: Where an earlier page ended.
CURSOR: Final = "_cursor"
#: What is known of an answer and not of a resource.
_OF_ANSWER: Final = frozenset({"_format", "_pretty", CURSOR})


class _NothingMatches(Exception):
    """Nothing that this archive has can match."""


@dataclass(slots=True, kw_only=True)
class Search:
    """A search as it is read, parameter by parameter.

    Attributes:
        used: parameters that were understood, for the link to the page itself.
        ignored: names of those that were not.
        summary: value of ``_summary``; empty: none.
        is_empty: nothing that this archive has can match.
    """

    level: Level
    criteria: list[Criterion] = field(default_factory=list)
    combined: list[CombinedRange] = field(default_factory=list)
    count: int = DEFAULT_COUNT
    cursor: str | None = None
    summary: str = ""
    includes_patients: bool = False
    is_empty: bool = False
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def query(self, return_tags: Sequence[int]) -> Query:
        """What the index is asked."""
        return Query(
            level=self.level,
            criteria=tuple(self.criteria),
            combined=tuple(self.combined),
            return_tags=tuple(return_tags),
        )

    def add(self, keyword: str, match: Match) -> None:
        """An attribute has to match."""
        self.criteria.append(Criterion(BY_KEYWORD[keyword].tag, match))

    def add_any(self, keyword: str, values: Iterable[str]) -> None:
        """An attribute has one of these values."""
        found = tuple(dict.fromkeys(values))
        if not found:
            raise _NothingMatches
        self.add(keyword, SingleValue(found[0]) if len(found) == 1 else ValueList(found))


Reader = Callable[[Search, str, str], None]


class Searches:
    """Reads searches.

    Args:
        zone: of the clocks of the archive; None: that of this machine.
    """

    def __init__(self, authorities: AssigningAuthorities, zone: tzinfo | None) -> None:
        self._authorities = authorities
        self._zone = zone
        patient = {
            "_id": self._patient_ids,
            "identifier": self._patient_identifier,
        }
        self.of_studies: Mapping[str, Reader] = {
            "_id": _study_ids,
            "identifier": self._study_identifier,
            "patient": self._patient_ids,
            "subject": self._patient_ids,
            "patient.identifier": self._patient_identifier,
            "patient:identifier": self._patient_identifier,
            "subject.identifier": self._patient_identifier,
            "subject:identifier": self._patient_identifier,
            "basedon:identifier": self._accession_number,
            "started": self._started,
            "modality": _modality,
            "series": _uids_of("SeriesInstanceUID"),
            "instance": _uids_of("SOPInstanceUID"),
            "dicom-class": _uids_of("SOPClassesInStudy"),
            "status": _status,
            "_include": _include,
        }
        self.of_patients: Mapping[str, Reader] = patient | {
            "name": _name("*{}*"),
            "family": _name("{}*"),
            "given": _name("*^{}*"),
            "birthdate": self._birth_date,
            "gender": _gender,
        }

    def read(self, level: Level, query: Sequence[tuple[str, str]], *, is_strict: bool) -> Search:
        """What a query asks for.

        Args:
            is_strict: what is not understood is an error (``Prefer: handling=strict``).

        Raises:
            HttpError: it makes no sense (400).
        """
        readers = self.of_studies if level is Level.STUDY else self.of_patients
        search = Search(level=level)
        for name, text in query:
            reader = readers.get(name) or _COMMON.get(name)
            if name in _OF_ANSWER:
                if name == CURSOR:
                    search.cursor = text
                continue
            if reader is None:
                search.ignored.append(name)
                continue
            try:
                reader(search, name, text)
            except _NothingMatches:
                search.is_empty = True
            search.used.append((name, text))
        if search.ignored and is_strict:
            names = ", ".join(sorted(readers))
            raise HttpError(400, "BAD_QUERY", f"a parameter is not known; there are {names}")
        return search

    # -- Studies ---------------------------------------------------------------------------

    def _study_identifier(self, search: Search, name: str, text: str) -> None:
        uids: list[str] = []
        numbers: list[str] = []
        for token in tokens(name, text):
            if token.system == DICOM_UID or (token.system is None and is_oid(uid_of(token.code))):
                uids.append(uid_of(token.code))
            elif self._is_accession(token):
                numbers.append(token.code)
        if uids and numbers:
            raise bad(name, "ask for UIDs and for accession numbers one after the other")
        if not uids and not numbers:
            raise _NothingMatches
        if uids:
            search.add_any("StudyInstanceUID", uids)
        else:
            search.add_any("AccessionNumber", numbers)

    def _accession_number(self, search: Search, name: str, text: str) -> None:
        found = [one.code for one in tokens(name, text) if self._is_accession(one)]
        search.add_any("AccessionNumber", found)

    def _is_accession(self, token: Token) -> bool:
        if token.system is None:
            return True
        oid = self._authorities.accession_numbers
        return token.system == (uid_urn(oid) if oid else "")

    def _started(self, search: Search, name: str, text: str) -> None:
        (one, *more) = values_of(name, text)
        if more:
            raise bad(name, "only one date can be asked for at a time")
        found = period(name, one, self._zone)
        if not found.has_time:
            search.add("StudyDate", found.days())
            return
        date, time = BY_KEYWORD["StudyDate"].tag, BY_KEYWORD["StudyTime"].tag
        search.combined.append(CombinedRange(date, time, *found.moments()))

    # -- Patients --------------------------------------------------------------------------

    def _patient_ids(self, search: Search, name: str, text: str) -> None:
        if name == "_id":
            keys = [unescaped(one) for one in values_of(name, text)]
        else:
            keys = list(references(name, "Patient", text))
        found = [patient for key in keys if (patient := read_patient_key(key)) is not None]
        if not found:
            raise _NothingMatches
        self._one_of(search, name, found)

    def _patient_identifier(self, search: Search, name: str, text: str) -> None:
        found: list[tuple[str, str | None]] = []
        for token in tokens(name, text):
            if token.system is None:
                found.append((token.code, None))
            else:
                found += [(token.code, issuer) for issuer in self._issuers(token.system)]
        if not found:
            raise _NothingMatches
        self._one_of(search, name, found)

    def _issuers(self, system: str) -> list[str]:
        """The issuers whose Patient IDs are of a system."""
        authorities = self._authorities
        oid = uid_of(system)
        found = [issuer for issuer, one in authorities.by_issuer.items() if one == oid]
        if oid == authorities.patient_ids:
            found.append("")
        return found

    @staticmethod
    def _one_of(search: Search, name: str, found: Sequence[tuple[str, str | None]]) -> None:
        issuers = {issuer for _, issuer in found}
        if len(issuers) > 1:
            raise bad(name, "ask for patients of several issuers one after the other")
        search.add_any("PatientID", (patient_id for patient_id, _ in found))
        (issuer,) = issuers
        if issuer is not None:
            search.add("IssuerOfPatientID", SingleValue(issuer) if issuer else EmptyValue())

    def _birth_date(self, search: Search, name: str, text: str) -> None:
        (one, *more) = values_of(name, text)
        if more:
            raise bad(name, "only one date can be asked for at a time")
        search.add("PatientBirthDate", period(name, one, self._zone).days())


def _study_ids(search: Search, name: str, text: str) -> None:
    search.add_any("StudyInstanceUID", map(unescaped, values_of(name, text)))


def _uids_of(keyword: str) -> Reader:
    def read(search: Search, name: str, text: str) -> None:
        systems = (None, DICOM_UID, "urn:ietf:rfc:3986")
        found = [uid_of(one.code) for one in tokens(name, text) if one.system in systems]
        search.add_any(keyword, found)

    return read


def _modality(search: Search, name: str, text: str) -> None:
    found = [one.code for one in tokens(name, text) if one.system in (None, DCM)]
    search.add_any("ModalitiesInStudy", found)


def _status(search: Search, name: str, text: str) -> None:
    if not any(one.code == "available" for one in tokens(name, text)):
        raise _NothingMatches


def _include(search: Search, name: str, text: str) -> None:
    if text in ("ImagingStudy:subject", "ImagingStudy:patient"):
        search.includes_patients = True
    else:
        raise bad(name, "only ImagingStudy:subject can be included")


def _name(pattern: str) -> Reader:
    def read(search: Search, name: str, text: str) -> None:
        (one, *more) = values_of(name, text)
        if more:
            raise bad(name, "only one name can be asked for at a time")
        search.add("PatientName", WildCard(pattern.format(wild(unescaped(one).strip()))))

    return read


_SEXES: Final = {"male": "M", "female": "F", "other": "O"}


def _gender(search: Search, name: str, text: str) -> None:
    codes = [one.code for one in tokens(name, text)]
    if codes == ["unknown"]:
        search.add("PatientSex", EmptyValue())
        return
    search.add_any("PatientSex", (_SEXES[one] for one in codes if one in _SEXES))


def _count(search: Search, name: str, text: str) -> None:
    if not (text.isascii() and text.isdecimal()):
        raise bad(name, f"a number from 0 to {MOST_COUNT}")
    search.count = min(int(text[:9]), MOST_COUNT)


def _summary(search: Search, name: str, text: str) -> None:
    if text not in ("true", "false", "count", "data", "text"):
        raise bad(name, "one of true, false, count and data")
    search.summary = text


_COMMON: Final[Mapping[str, Reader]] = {"_count": _count, "_summary": _summary}
