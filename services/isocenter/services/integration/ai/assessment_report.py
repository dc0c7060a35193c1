"""Report of the assessment of an AI result: an Enhanced SR (PS3.3 A.35.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.integration.ai.assessment import (
    REASONS,
    AssessmentStatus,
    Opinion,
    Verdict,
)
from isocenter.services.viewing.document_parts import (
    CONTAINS,
    Authorship,
    Code,
    Item,
    MarkedImage,
    attributes,
    coded,
    container,
    content_item,
    document,
    evidence,
    language,
    observer,
    person,
    reference,
    report_attributes,
)

ENHANCED_SR: Final = "1.2.840.10008.5.1.4.1.1.88.22"
_SERIES_NUMBER: Final = 9903
#: Concepts for which PS3.16 has no code.  They stand here only, to be exchanged for others.
_OWN_SCHEME: Final = "99ISOCENTER"
_TITLE: Final = Code("AI-1", _OWN_SCHEME, "AI Result Assessment")
_RESULT: Final = Code("AI-2", _OWN_SCHEME, "Assessed Result")
_ASSESSMENT: Final = Code("AI-3", _OWN_SCHEME, "Assessment of Result")
_REASON: Final = Code("AI-4", _OWN_SCHEME, "Reason for Rejection")
_MODIFIED: Final = Code("AI-5", _OWN_SCHEME, "Modified Result")
_COMMENT: Final = Code("121106", "DCM", "Comment")
_VERDICTS: Final = {
    Verdict.ACCEPT: Code("AI-11", _OWN_SCHEME, "Result accepted"),
    Verdict.MODIFY: Code("AI-12", _OWN_SCHEME, "Result accepted with modification"),
    Verdict.REJECT: Code("AI-13", _OWN_SCHEME, "Result rejected"),
}


def assessment_report(
    result: MarkedImage,
    opinion: Opinion,
    *,
    assessor: str,
    now: datetime,
    modified: StoredInstance | None = None,
    predecessor: StoredInstance | None = None,
) -> ModelFile:
    """The document of an assessment."""
    children = [
        language(),
        *observer(assessor),
        _composite(_RESULT, result.stored),
        coded(CONTAINS, _ASSESSMENT, _VERDICTS[opinion.verdict]),
    ]
    if opinion.reason:
        children.append(coded(CONTAINS, _REASON, _reason(opinion.reason)))
    if modified is not None:
        children.append(_composite(_MODIFIED, modified))
    if opinion.comment.strip():
        children.append(content_item(CONTAINS, "TEXT", _COMMENT, TextValue=opinion.comment.strip()))
    spoken_of = [result.stored, *([] if modified is None else [modified])]
    content = container("", _TITLE, children)
    content |= attributes(
        **report_attributes(spoken_of, now),
        **_completion(opinion, assessor, now),
        PerformedProcedureCodeSequence=None,
        CodingSchemeIdentificationSequence=[
            attributes(
                CodingSchemeDesignator=_OWN_SCHEME,
                CodingSchemeName="Concepts of Isocenter",
                CodingSchemeResponsibleOrganization="Isocenter",
            )
        ],
    )
    if predecessor is not None:
        content |= attributes(PredecessorDocumentsSequence=evidence([predecessor]))
    return document(
        result,
        Authorship(author=assessor, now=now),
        sop_class_uid=ENHANCED_SR,
        modality="SR",
        series_number=_SERIES_NUMBER,
        series_description="Assessment of AI results",
        content=content,
    )


def _composite(name: Code, stored: StoredInstance) -> Item:
    return content_item(CONTAINS, "COMPOSITE", name, ReferencedSOPSequence=[reference(stored)])


def _completion(opinion: Opinion, assessor: str, now: datetime) -> dict[str, object]:
    """How far the document is (PS3.3 C.17.2); verified needs an organisation."""
    if opinion.status is AssessmentStatus.DRAFT:
        return {"CompletionFlag": "PARTIAL", "VerificationFlag": "UNVERIFIED"}
    if not opinion.institution.strip():
        return {"CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED"}
    verifier = attributes(
        VerifyingObserverName=person(assessor),
        VerifyingOrganization=opinion.institution.strip(),
        VerificationDateTime=now.strftime("%Y%m%d%H%M%S"),
        VerifyingObserverIdentificationCodeSequence=None,
    )
    return {
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "VERIFIED",
        "VerifyingObserverSequence": [verifier],
    }


def _reason(code: str) -> Code:
    """Those of PS3.16 are numbers."""
    return Code(code, "DCM" if code.isdecimal() else _OWN_SCHEME, REASONS[code])
