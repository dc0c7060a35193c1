"""Repository to which manifests of studies are published, as a value."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.sharing.key_object_manifest import ManifestForm

#: Before the name, where jobs name what they are about.
_PREFIX: Final = "repository:"


class Protocol(Enum):
    """How a repository is spoken to."""

    #: Mobile access to Health Documents, Provide Document Bundle (ITI-65).
    MHD = "mhd"
    #: Cross-enterprise document sharing, Provide and Register Document Set-b (ITI-41, RAD-68).
    XDS = "xds"


class PublishWhen(Enum):
    """Which studies a repository gets."""

    #: Those that somebody asks for.
    BY_HAND = "by hand"
    #: Every study that is complete, as far as its modality is wanted.
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class MetadataCode:
    """A code of the metadata of a document, as ``CODE|SYSTEM|MEANING``; the system is a URI."""

    code: str
    system: str
    meaning: str

    @classmethod
    def parse(cls, text: str) -> MetadataCode:
        """A code of its text.

        Raises:
            ValueError: it is none.
        """
        code, _, rest = text.partition("|")
        system, _, meaning = rest.partition("|")
        if not (code.strip() and ":" in system and meaning.strip() and text.isprintable()):
            raise ValueError("a code is like 394914008|http://snomed.info/sct|Radiology")
        return cls(code.strip(), system.strip(), meaning.strip())

    def __str__(self) -> str:
        return f"{self.code}|{self.system}|{self.meaning}"


_LOINC: Final = "http://loinc.org"
_SNOMED: Final = "http://snomed.info/sct"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCodes:
    """What the metadata of every document of a repository say.

    Attributes:
        category, kind: what it is, coarsely and finely (class and type code).
        facility, practice: where it was made.
        confidentiality: who may see it.
    """

    category: MetadataCode = MetadataCode("18726-0", _LOINC, "Radiology studies (set)")
    kind: MetadataCode = MetadataCode("18748-4", _LOINC, "Diagnostic imaging study")
    facility: MetadataCode = MetadataCode(
        "RADDX",
        "http://terminology.hl7.org/CodeSystem/v3-RoleCode",
        "Radiology diagnostics or therapy unit",
    )
    practice: MetadataCode = MetadataCode("394914008", _SNOMED, "Radiology")
    confidentiality: MetadataCode = MetadataCode(
        "N", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "normal"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository of the settings.

    Attributes:
        name: by which people and jobs call it.
        url: the base of FHIR (MHD), or the address of the service (XDS).
        source_oid: of this archive, as the source of submissions.
        registry: address of the registry (XDS), which is asked and told of what is deprecated;
            empty: neither can be done.
        documents: address for the retrieval of documents (XDS, ITI-43); empty: none are.
        imaging: address of the imaging document source of its manifests (XDS-I.b, RAD-69), from
            which their objects are fetched where no node has them; empty: they are not.
        ca: who may have signed its certificate; None: the CAs of the system.
        certificate, key: ours, for the handshake; None: none is shown.
        token_file: holds a bearer token; None: none is sent.
        modalities: of studies that are published by themselves; empty: all.
        language: of the documents.
        arrival_seconds: so long after it left, a document of which nobody has heard may arrive
            still; by default as long as an answer is waited for (`HttpDeadlines`), and some more.
    """

    name: str
    protocol: Protocol
    url: str
    source_oid: str
    registry: str = ""
    documents: str = ""
    imaging: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    when: PublishWhen = PublishWhen.BY_HAND
    modalities: tuple[str, ...] = ()
    form: ManifestForm = ManifestForm.XDS_I
    language: str = "en"
    arrival_seconds: int = 360
    codes: DocumentCodes = DocumentCodes()

    @property
    def _addresses(self) -> tuple[str, ...]:
        return self.url, self.registry, self.documents, self.imaging

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where manifests go."""
        urls = filter(None, self._addresses)
        return tuple(urlsplit(url).hostname or "" for url in urls)

    @property
    def host_in_the_clear(self) -> str:
        """Where manifests go in the clear; empty: over TLS."""
        for url in filter(None, self._addresses):
            parts = urlsplit(url)
            if parts.scheme == "http":
                return parts.hostname or ""
        return ""

    @property
    def destination(self) -> str:
        """As jobs name it."""
        return _PREFIX + self.name

    def __str__(self) -> str:
        return self.name
