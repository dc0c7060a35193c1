"""Web services of the conformance statement (PS3.2 N.5.3, N.7.3.3), from their route table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.creation.payloads import DOCUMENT_MEDIA_TYPES, PIXEL_MEDIA_TYPES
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.net.http.routing import Route
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table
from isocenter.services.web.description.service import PLACES
from isocenter.services.web.description.tables import tables
from isocenter.services.web.dicomweb.store.outcomes import REASONS

_NUMBER: Final = "4.5"
_NOT_FOR_THE_WEB: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})


def web_services(settings: Settings, routes: Sequence[Route[Any]]) -> Iterator[Block]:
    """What is offered over HTTP, as origin server.

    Args:
        routes: of a server with these settings; none: it offers nothing.
    """
    yield Heading(_NUMBER, "Web services")
    if not routes:
        yield Paragraph("None.")
        return
    yield Paragraph(
        "As origin server of PS3.18; the server requests nothing as user agent. Base URI: "
        f"{settings.web.public_root or 'http://host:port'}/dicomweb. HTTP/1.1; HTTP/2 over TLS. "
        "The address is one of 4.3. Security: a client certificate, or a bearer token (RFC 6750), "
        "or the session of a browser; programs on the same machine need none of them in the clear."
    )
    yield Table(
        ("Header field", "Where", "Meaning"),
        [
            ("Accept", "all", "media types; accept in the query wins over it"),
            ("Accept-Encoding", "metadata", "gzip; identity otherwise"),
            ("Authorization", "all", "Bearer, a token"),
            ("Content-Type", "POST", "media type of the body; 415 for what is not taken"),
            ("If-None-Match", "retrieve", "304 where nothing has changed"),
            ("If-Range, Range", "frames, bulk data", "one range of bytes; 206, 416"),
            ("Origin, Access-Control-Request-Method", "all", "CORS, for web.cors_origins"),
        ],
    )
    yield Paragraph("Answers are in UTF-8; Accept-Charset is not looked at.")
    if settings.sharing.fhir:
        yield Paragraph(
            "Beside them, no part of DICOM: reads and searches of ImagingStudy and Patient in FHIR "
            "R4 and R5, below /fhir/r4 and /fhir/r5; their CapabilityStatement is at metadata."
        )
    count = 0
    for block in tables(routes, PLACES, _NUMBER):
        count += isinstance(block, Heading)
        yield block
    yield Heading(f"{_NUMBER}.{count + 1}", "Transfer syntaxes of retrieved objects and frames")
    yield Paragraph(
        "With transfer-syntax=*, and for */*, as stored; without one Explicit VR Little Endian, "
        "but that what exists with losses only stays as it is (PS3.18 8.7.3). When nothing that is "
        "acceptable can be made, the answer is 406 with what can be had, and not the default. "
        "Every part says its transfer syntax."
    )
    can_make = settings.transcoding.enabled
    yield Table(
        ("Transfer syntax", "UID", "As stored", "Made of others"),
        [
            (
                syntax.name,
                syntax.uid,
                "never (PS3.18 8.7.3)" if syntax.uid in _NOT_FOR_THE_WEB else "yes",
                "never"
                if syntax.uid in _NOT_FOR_THE_WEB
                else syntax.encoding.value
                if can_make or syntax.uid == EXPLICIT_VR_LITTLE_ENDIAN
                else "no (transcoding.enabled)",
            )
            for syntax in PIXEL_SYNTAXES.values()
        ],
    )
    yield Heading(f"{_NUMBER}.{count + 2}", "Stored objects")
    yield Paragraph(
        "By multipart/related of application/dicom, or of application/dicom+json or +xml with bulk "
        "data by Content-Location; what no part of the request has is not fetched. Pixel Data as "
        f"{', '.join(PIXEL_MEDIA_TYPES)}; Encapsulated Document as "
        f"{', '.join(DOCUMENT_MEDIA_TYPES)}: Image Pixel, Multi-frame, lossy compression and the "
        "length of a document are then read from the bytes, and attributes of type 2 that are "
        "missing are added empty. The reasons of warnings and failures are the statuses of 4.2.3, "
        "and these; Error Comment (0000,0902) says more."
    )
    yield Table(
        ("Reason", "Meaning"), [(f"{status:04X}H", text) for status, text in REASONS.items()]
    )
    yield Heading(f"{_NUMBER}.{count + 3}", "Query parameters of searches")
    yield Paragraph(
        "Attributes are named by keyword or tag, those of a sequence behind a dot. The attributes "
        "of 4.2.4 at and above the level are matched as C-FIND does, and can be named in "
        "includefield; of the worklist those of 4.2.5. What cannot be matched is named in a "
        "Warning; names that nobody knows are ignored."
    )
    yield Table(
        ("Bound", "Value"),
        [
            ("Matches of a search that says no limit", f"{settings.web.default_results:,}"),
            ("Matches that may be asked for at once (413)", f"{settings.web.max_results:,}"),
            ("Connections at once", f"{settings.web.max_connections:,}"),
            ("... from one address", f"{settings.web.max_connections_per_address:,}"),
        ],
    )
