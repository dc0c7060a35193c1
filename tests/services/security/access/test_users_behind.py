"""Users behind AE titles, and when the policy is enforced at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.engine.dimse.message_codec import CFindRequest, CStoreRequest
from isocenter.engine.items import UserIdentity
from isocenter.engine.negotiation import associate_request
from isocenter.engine.pdu import AssociateRequest
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.association.access import Admitted, ConnectionOrigin, Rejected
from isocenter.services.security.access.deidentified_callers import DeidentifiedCallers
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    Policy,
    User,
    from_text,
    to_text,
)
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.security.access.user_changes import adding
from services.security.access.policy_support import CT, FIND, control, entities, users

ORIGIN = ConnectionOrigin(host="127.0.0.1")
STORE = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
ASK = CFindRequest(message_id=1, affected_sop_class_uid=FIND)
ALICE = User(name="alice", roles=("Viewer",), without_passcode=True)
BOB = User(name="bob", roles=("Technologist",), without_passcode=True)
WS1 = ApplicationEntity(ae_title="WS1", user="alice", roles=())


def calling(title: str, user: str = "") -> AssociateRequest:
    request = associate_request("ISOCENTER", title, [(VERIFICATION, [IMPLICIT_VR_LITTLE_ENDIAN])])
    identity = UserIdentity(1, False, user.encode()) if user else None
    info = replace(request.user_information, user_identity=identity)
    return replace(request, user_information=info)


def may(verdict: Admitted | Rejected) -> list[str]:
    assert isinstance(verdict, Admitted)
    assert verdict.grant is not None
    asked = ((FIND, ASK), (CT, STORE))
    return [
        type(request).__name__
        for syntax, request in asked
        if not verdict.grant.refusal(syntax, request)
    ]


async def test_an_ae_title_has_the_permissions_of_its_user(tmp_path: Path) -> None:
    access = control(tmp_path, users(ALICE, BOB), entities(WS1))
    verdict = await access.admit(calling("WS1"), ORIGIN)
    assert isinstance(verdict, Admitted)
    assert (verdict.user, may(verdict)) == ("alice", ["CFindRequest"])
    # Whoever proves to be somebody else is that one, and nothing of the first.
    verdict = await access.admit(calling("WS1", "bob"), ORIGIN)
    assert isinstance(verdict, Admitted)
    assert (verdict.user, may(verdict)) == ("bob", ["CFindRequest", "CStoreRequest"])


async def test_a_change_of_the_user_holds_for_what_stands(tmp_path: Path) -> None:
    access = control(tmp_path, users(ALICE, BOB), entities(WS1))
    verdict = await access.admit(calling("WS1"), ORIGIN)
    assert may(verdict) == ["CFindRequest"]
    PolicyFile(tmp_path).change(entities(replace(WS1, user="bob")))
    access.refresh()
    assert may(verdict) == ["CFindRequest", "CStoreRequest"]
    PolicyFile(tmp_path).change(users(ALICE, replace(BOB, active=False)))
    access.refresh()
    assert may(verdict) == []


async def test_who_is_for_a_deactivated_user_is_turned_away(tmp_path: Path) -> None:
    access = control(tmp_path, users(replace(ALICE, active=False), BOB), entities(WS1))
    verdict = await access.admit(calling("WS1"), ORIGIN)
    assert isinstance(verdict, Rejected)
    assert "isocenter user activate alice" in verdict.why
    assert isinstance(await access.admit(calling("WS1", "bob"), ORIGIN), Admitted)


def test_a_user_who_is_behind_somebody_cannot_go() -> None:
    with pytest.raises(PolicyError, match="WS1 is for the user 'alice', and there is none"):
        Policy(entities=(WS1,))


def test_the_text_has_the_user_where_there_is_one() -> None:
    policy = Policy(entities=(ApplicationEntity(ae_title="CT1"), WS1), users=(ALICE,))
    assert from_text(to_text(policy)) == policy
    assert to_text(policy).count(b'"user"') == 1


async def test_the_project_of_its_user_is_its_project(tmp_path: Path) -> None:
    trial = Project(name="trial", roles=("Viewer",))
    inner = control(tmp_path, users(ALICE), entities(WS1, ApplicationEntity(ae_title="CT1")))
    access = DeidentifiedCallers(inner, Recipients((trial,)), lambda: inner.policy)
    projects = []
    for title in ("WS1", "CT1"):
        verdict = await access.admit(calling(title), ORIGIN)
        assert isinstance(verdict, Admitted)
        assert verdict.grant is not None
        projects.append(verdict.grant.project)
    assert projects == ["trial", ""]


@pytest.mark.parametrize(
    ("enforcement", "is_known", "is_first"),
    [
        (Enforcement.AUTO, ["CFindRequest", "CStoreRequest"], True),
        (Enforcement.ALWAYS, None, True),
        (Enforcement.NEVER, ["CFindRequest", "CStoreRequest"], True),
        (Enforcement.AUTO, ["CFindRequest"], False),
        (Enforcement.ALWAYS, ["CFindRequest"], False),
        (Enforcement.NEVER, ["CFindRequest", "CStoreRequest"], False),
    ],
)
async def test_enforcement(
    tmp_path: Path, enforcement: Enforcement, is_known: list[str] | None, is_first: bool
) -> None:
    viewer = ApplicationEntity(ae_title="WS1", roles=("Viewer",))
    access = control(tmp_path, entities(*([] if is_first else [viewer])))
    access.enforcement = enforcement
    verdict = await access.admit(calling("WS1"), ORIGIN)
    if is_known is None:
        assert isinstance(verdict, Rejected)
        assert verdict.cure == "isocenter ae add WS1 --address 127.0.0.1"
    else:
        assert may(verdict) == is_known
    stranger = await access.admit(calling("CT1"), ORIGIN)
    assert isinstance(stranger, Rejected) is enforcement.holds(not is_first)


async def test_another_enforcement_holds_for_what_stands(tmp_path: Path) -> None:
    access = control(tmp_path, entities(ApplicationEntity(ae_title="WS1", roles=("Viewer",))))
    verdict = await access.admit(calling("WS1"), ORIGIN)
    assert may(verdict) == ["CFindRequest"]
    access.enforcement = Enforcement.NEVER
    assert may(verdict) == ["CFindRequest", "CStoreRequest"]


@pytest.mark.parametrize("name", ["system", "Anonymous"])
def test_names_of_the_audit_trail_are_no_users(name: str) -> None:
    with pytest.raises(PolicyError, match="is what the audit trail calls"):
        adding(User(name=name))(Policy())
    with pytest.raises(PolicyError, match="is what the audit trail calls"):
        adding(User(name="alice", subjects=(name,)))(Policy())
    # One that was there before stays.
    assert from_text(to_text(Policy(users=(User(name=name),)))).users == (User(name=name),)
