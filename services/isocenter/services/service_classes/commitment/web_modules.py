"""Storage Commitment Request and Response modules of web services (PS3.18 Annex J).

Instances are named one by one, as over DIMSE, or within their studies and series; the answer names
them in the way of the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, WritableElement, write_data_set
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList, items_of, text_of
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.commitment.transaction import (
    FAILED_SOP_SEQUENCE,
    FAILURE_REASON,
    REFERENCED_SOP_CLASS_UID,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    Reference,
    Transaction,
    check_uid,
    checked_references,
    references_of,
)
from isocenter.services.service_classes.normalized.ports import REPORT_LIMITS

REFERENCED_STUDIES: Final = 0x00081110
REFERENCED_SERIES: Final = 0x00081115
REFERENCED_BY_CLASS: Final = 0x00081112
REFERENCED_INSTANCES: Final = 0x0008114A
FAILED_STUDIES: Final = 0x0008119B
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E

#: A reference, and 0 or its failure reason.
_Outcome = tuple[Reference, int]


def asked_references(transaction_uid: str, attributes: AttributeList) -> tuple[Reference, ...]:
    """What a request asks commitment for (PS3.18 J.1).

    Args:
        transaction_uid: as the resource is called; the data set need not say it.

    Raises:
        OperationError: 0120H, 0121H: something is missing or empty; 0115H: a UID is none, or the
            transaction is another one.
    """
    if attributes.text(TRANSACTION_UID) not in ("", transaction_uid):
        raise OperationError(
            Status.INVALID_ARGUMENT_VALUE, "(0008,1195) is not the UID that the request is sent to"
        )
    references = [each for each, _ in references_of(attributes, REFERENCED_SOP_SEQUENCE)]
    references += _in_studies(attributes)
    if not references:
        raise OperationError(
            Status.MISSING_ATTRIBUTE, "neither (0008,1199) nor (0008,1110) names an instance"
        )
    return checked_references(references)


def _in_studies(attributes: AttributeList) -> Iterator[Reference]:
    for study in attributes.items(REFERENCED_STUDIES):
        study_uid = text_of(study, STUDY_INSTANCE_UID)
        check_uid(STUDY_INSTANCE_UID, study_uid, UidRule.SAFE)
        for series in items_of(study, REFERENCED_SERIES):
            series_uid = text_of(series, SERIES_INSTANCE_UID)
            check_uid(SERIES_INSTANCE_UID, series_uid, UidRule.SAFE)
            for kind in items_of(series, REFERENCED_BY_CLASS):
                for instance in items_of(kind, REFERENCED_INSTANCES):
                    yield Reference(
                        text_of(kind, REFERENCED_SOP_CLASS_UID),
                        text_of(instance, REFERENCED_SOP_INSTANCE_UID),
                        study_uid,
                        series_uid,
                    )


def response_of(transaction: Transaction, failures: Sequence[int]) -> AttributeList:
    """What became of a request (PS3.18 J.2)."""
    outcomes = list(zip(transaction.references, failures, strict=True))
    elements: list[WritableElement] = []
    for tag, is_failed, is_in_study in (
        (REFERENCED_STUDIES, False, True),
        (FAILED_SOP_SEQUENCE, True, False),
        (REFERENCED_SOP_SEQUENCE, False, False),
        (FAILED_STUDIES, True, True),
    ):
        named = [
            (reference, failure)
            for reference, failure in outcomes
            if bool(failure) is is_failed and bool(reference.study_instance_uid) is is_in_study
        ]
        if named:
            items = list(_studies(named)) if is_in_study else [_instance(*one) for one in named]
            elements.append((tag, "SQ", items))
    data_set = write_data_set(sorted(elements, key=lambda one: one[0]), EXPLICIT_LITTLE)
    return AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, REPORT_LIMITS)


def _studies(named: Iterable[_Outcome]) -> Iterator[list[WritableElement]]:
    ordered = sorted(named, key=lambda one: _place(one[0]))
    for study, of_study in groupby(ordered, lambda one: one[0].study_instance_uid):
        all_series: list[list[WritableElement]] = []
        for series, of_series in groupby(of_study, lambda one: one[0].series_instance_uid):
            kinds: list[list[WritableElement]] = []
            for kind, of_kind in groupby(of_series, lambda one: one[0].sop_class_uid):
                instances = [_instance(each, failure)[1:] for each, failure in of_kind]
                kinds.append(
                    [
                        (REFERENCED_INSTANCES, "SQ", instances),
                        (REFERENCED_SOP_CLASS_UID, "UI", kind.encode("ascii")),
                    ]
                )
            all_series.append(
                [
                    (REFERENCED_BY_CLASS, "SQ", kinds),
                    (SERIES_INSTANCE_UID, "UI", series.encode("ascii")),
                ]
            )
        yield [
            (REFERENCED_SERIES, "SQ", all_series),
            (STUDY_INSTANCE_UID, "UI", study.encode("ascii")),
        ]


def _place(reference: Reference) -> tuple[str, str, str]:
    return reference.study_instance_uid, reference.series_instance_uid, reference.sop_class_uid


def _instance(reference: Reference, failure: int) -> list[WritableElement]:
    """SOP class, instance, and why not."""
    item: list[WritableElement] = [
        (REFERENCED_SOP_CLASS_UID, "UI", reference.sop_class_uid.encode("ascii")),
        (REFERENCED_SOP_INSTANCE_UID, "UI", reference.sop_instance_uid.encode("ascii")),
    ]
    if failure:
        item.append((FAILURE_REASON, "US", failure.to_bytes(2, "little")))
    return item
