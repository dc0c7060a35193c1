"""Callers of a project of de-identification: told by the policy of the moment."""

from __future__ import annotations

from isocenter.engine.dimse.message_codec import CEchoRequest, CFindRequest
from isocenter.engine.uid import VERIFICATION
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.association.access import (
    Admitted,
    AeTitleRules,
    ConnectionOrigin,
    Rejected,
)
from isocenter.services.security.access.deidentified_callers import (
    DeidentifiedCallers,
    _ProjectGrant,
)
from isocenter.services.security.access.grants import PolicyGrant, Rights
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.security.access.policy import ApplicationEntity, Policy
from isocenter.services.security.access.recipients import Recipients
from services.security.access.policy_support import FIND
from support.raw import associate_request

TRIAL = Project(name="trial", destinations=("TRIAL",), roles=("Viewer",))
OTHER = Project(name="other", roles=("Technologist",))
HERE = ConnectionOrigin(host="127.0.0.1")


async def admitted(access: DeidentifiedCallers, title: str) -> Admitted:
    verdict = await access.admit(associate_request(calling=title), HERE)
    assert isinstance(verdict, Admitted)
    return verdict


async def test_a_grant_says_the_project() -> None:
    access = DeidentifiedCallers(AeTitleRules(), Recipients([TRIAL]))
    for title, project in (("TRIAL", "trial"), ("trial", "trial"), ("PACS", "")):
        grant = (await admitted(access, title)).grant
        assert grant is not None
        assert grant.project == project


async def test_a_role_that_is_given_later_counts_at_once() -> None:
    roles = ["Modality"]

    def policy() -> Policy:
        return Policy(entities=(ApplicationEntity(ae_title="CT1", roles=tuple(roles)),))

    access = DeidentifiedCallers(AeTitleRules(), Recipients([TRIAL, OTHER]), policy)
    grant = (await admitted(access, "CT1")).grant
    assert grant is not None
    assert grant.project == ""
    roles.append("Viewer")
    assert grant.project == "trial"
    echo = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
    assert not grant.refusal(VERIFICATION, echo)
    roles.append("Technologist")
    find = CFindRequest(message_id=1, affected_sop_class_uid=FIND)
    assert "several projects" in grant.refusal(FIND, find)


async def test_what_the_rules_reject_stays_rejected() -> None:
    access = DeidentifiedCallers(AeTitleRules(allow=("PACS",)), Recipients([TRIAL]))
    verdict = await access.admit(associate_request(calling="TRIAL"), HERE)
    assert isinstance(verdict, Rejected)


async def test_who_belongs_to_a_project_was_given_nothing_as_it_is() -> None:
    rights = Rights(ae_title="CT1", permissions=ALL_PERMISSIONS)
    project = [""]
    grant = _ProjectGrant(PolicyGrant(lambda: rights), lambda: project[0])
    assert grant.is_given("C-GET")
    project[0] = "trial"
    assert not grant.is_given("C-GET")
    assert not _ProjectGrant(None, lambda: "").is_given("C-GET")
