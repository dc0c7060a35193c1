"""Requests and responses of RAD-69 that say things within each other."""

from __future__ import annotations

import pytest

from isocenter.services.integration.sharing.imaging_document_set import (
    read_imaging_answer,
    read_imaging_request,
)
from isocenter.services.integration.sharing.soap import decoded
from isocenter.services.integration.sharing.xml_text import read_xml_document
from isocenter.services.net.http.client_errors import BrokenAnswerError


def test_requests_within_requests_are_not_multiplied() -> None:
    one = (
        "<DocumentRequest><RepositoryUniqueId>1.2</RepositoryUniqueId>"
        "<DocumentUniqueId>1.2.3</DocumentUniqueId></DocumentRequest>"
    )
    study, series = '<StudyRequest studyInstanceUID="1.1">', '<SeriesRequest seriesInstanceUID="1">'

    def found(deep: int) -> int:
        markup = (
            f"{study * deep}{series * deep}{one}{'</SeriesRequest>' * deep}"
            f"{'</StudyRequest>' * deep}"
        )
        request = f"<RetrieveImagingDocumentSetRequest>{markup}</RetrieveImagingDocumentSetRequest>"
        body = read_xml_document(f"<Body>{request}</Body>".encode())
        return len(read_imaging_request(body).documents)

    assert found(1) == 1
    with pytest.raises(ValueError, match="no document"):
        found(20)


def test_a_document_within_many_responses_is_held_once() -> None:
    content = "<Document>QUJD</Document>"
    start, end = "<DocumentResponse>", "</DocumentResponse>"

    def within(deep: int) -> tuple[str, ...]:
        said = f"<RegistryResponse/>{start * deep}{content}{end * deep}"
        whole = f"<Body><RetrieveDocumentSetResponse>{said}</RetrieveDocumentSetResponse></Body>"
        return read_imaging_answer(read_xml_document(whole.encode())).within

    assert within(1) == ("QUJD",)
    assert within(20) == ()


def test_documents_in_envelopes_are_base64() -> None:
    assert decoded(" QU\r\n JD\t\n") == b"ABC"
    for wrong in ("QUJ", "QU*D", "QUJD\u00e4"):
        with pytest.raises(BrokenAnswerError, match="document"):
            decoded(wrong)
