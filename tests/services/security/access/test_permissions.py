"""Roles and permissions, and what operations need (SEC-RBAC)."""

from __future__ import annotations

import pytest

from isocenter.engine.dimse.message_codec import CStoreRequest, NActionRequest, UnrecognizedMessage
from isocenter.engine.dimse.message_fields import RESPONSES, operation_name
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.security.access.grants import Rights
from isocenter.services.security.access.permissions import (
    ALL_PERMISSIONS,
    FULL,
    NEEDS,
    NOT_PERFORMED,
    ROLES,
    Action,
    Resource,
    missing,
    operations,
    operations_for,
    parse_permission,
    permission_texts,
    union,
    without,
)

#: By hand, from the table of roles and the mapping of operations.
_PERFORMED = [one for one in NEEDS if one not in NOT_PERFORMED]
MAY = {
    "Viewer": "C-ECHO C-FIND N-GET N-EVENT-REPORT",
    "Modality": "C-ECHO C-STORE C-FIND N-CREATE N-SET N-GET N-ACTION N-EVENT-REPORT",
    "Technologist": "C-ECHO C-STORE C-FIND N-CREATE N-SET N-GET N-EVENT-REPORT",
    "Radiologist": " ".join(_PERFORMED),
    "Administrator": " ".join(one for one in _PERFORMED if one != "C-FIND"),
    "System": " ".join(_PERFORMED),
}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_what_a_role_may(role: str) -> None:
    assert " ".join(operations(ROLES[role])) == MAY[role]


def test_every_request_has_its_operation() -> None:
    assert {operation_name(kind) for kind in RESPONSES} == set(NEEDS)
    assert operation_name(CStoreRequest) == "C-STORE"
    assert operation_name(NActionRequest) == "N-ACTION"
    assert operation_name(UnrecognizedMessage) not in NEEDS


def test_c_get_needs_to_read_and_to_export() -> None:
    assert missing({}, "C-GET") == "study:read+export"
    assert missing(parse_permission("study:read"), "C-GET") == "study:export"
    assert missing(parse_permission("study:full"), "C-GET") == ""
    assert missing({}, "C-ECHO") == ""


@pytest.mark.parametrize(
    ("text", "permissions"),
    [
        ("study:read", {Resource.STUDY: Action.READ}),
        ("Study:Read+Write", {Resource.STUDY: Action.READ | Action.WRITE}),
        ("audit:full", {Resource.AUDIT: FULL}),
        ("c-store", {Resource.STUDY: Action.WRITE}),
        ("C-GET", {Resource.STUDY: Action.READ | Action.EXPORT}),
    ],
)
def test_permissions_as_text(text: str, permissions: dict[Resource, Action]) -> None:
    assert parse_permission(text) == permissions
    assert union(parse_permission(one) for one in permission_texts(permissions)) == permissions


@pytest.mark.parametrize("text", ["", "study", "study:", "study:fly", "moon:read", "C-FLY", ":"])
def test_what_is_no_permission_names_what_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"RESOURCE:ACTION with study, .* read, .* as C-STORE"):
        parse_permission(text)


def test_what_is_taken_is_gone() -> None:
    left = without(ALL_PERMISSIONS, parse_permission("study:export"))
    assert "C-MOVE" not in operations(left)
    assert "C-STORE" in operations(left)
    assert without(parse_permission("study:read"), ALL_PERMISSIONS) == {}


@pytest.mark.parametrize(
    ("uid", "asked"),
    [
        ("1.2.840.10008.1.1", {"C-ECHO"}),
        (sop_classes.PATIENT_ROOT_FIND, {"C-FIND"}),
        (sop_classes.STUDY_ROOT_MOVE, {"C-MOVE"}),
        (sop_classes.PATIENT_STUDY_ONLY_GET, {"C-GET"}),
        ("1.2.840.10008.5.1.4.31", {"C-FIND"}),
        ("1.2.840.10008.1.20.1", {"N-ACTION"}),
        ("1.2.840.10008.3.1.2.3.3", {"N-CREATE", "N-SET"}),
        ("1.2.826.0.1.3680043.9.9.9", {"C-STORE"}),
    ],
)
def test_what_is_asked_for_on_a_sop_class(uid: str, asked: set[str]) -> None:
    assert operations_for(uid) == asked


def test_all_storage_is_for_c_store() -> None:
    assert {operations_for(uid) for uid in sop_classes.STORAGE_SOP_CLASSES} == {
        frozenset({"C-STORE"})
    }


def test_a_sop_class_may_say_itself_what_it_needs() -> None:
    own = {"2.25.1": {"N-ACTION": parse_permission("system:execute"), "N-GET": {}}}
    modality = Rights(ae_title="CT1", permissions=ROLES["Modality"], own_needs=own)
    assert modality.operations_for("2.25.1") == own["2.25.1"]
    assert modality.operations_for("2.25.2") == {"C-STORE"}
    assert modality.refusal("N-GET", "2.25.1") == ""
    assert modality.refusal("N-ACTION", "2.25.1") == (
        "CT1 lacks system:execute for N-ACTION; allow it with isocenter ae allow CT1 system:execute"
    )
    # The same operation on any other SOP class is as it was.
    assert modality.refusal("N-ACTION", "2.25.2") == ""
    admin = Rights(ae_title="A", permissions=ROLES["Administrator"], own_needs=own)
    assert admin.refusal("N-ACTION", "2.25.1") == ""


@pytest.mark.parametrize("meta", ["1.2.840.10008.5.1.1.9", "1.2.840.10008.5.1.1.18"])
def test_who_may_make_a_film_may_delete_it_and_nothing_else(meta: str) -> None:
    modality = Rights(ae_title="CT1", permissions=ROLES["Modality"])
    assert "N-DELETE" in modality.operations_for(meta)
    assert modality.refusal("N-DELETE", meta) == ""
    assert "study:delete" in modality.refusal("N-DELETE", "1.2.840.10008.1.20.1")
    viewer = Rights(ae_title="WS1", permissions=ROLES["Viewer"])
    assert "study:write" in viewer.refusal("N-DELETE", meta)
    assert "study:execute" in viewer.refusal("N-ACTION", meta)
