"""What the tests of the policy share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isocenter.services.association.access import AeTitleRules
from isocenter.services.notices import Notice, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_file import CurrentPolicy, PolicyFile
from isocenter.services.security.access.user_identity import IdentityRules, UserIdentities

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
NOBODY = AeTitleRules(ae_titles=frozenset({"ISOCENTER"}))


def entities(*some: ApplicationEntity) -> Callable[[Policy], Policy]:
    """An edit that leaves these and the users."""
    return lambda policy: Policy(entities=some, users=policy.users, roles=policy.roles)


def users(*some: User) -> Callable[[Policy], Policy]:
    """An edit that leaves these and the application entities."""
    return lambda policy: Policy(entities=policy.entities, users=some, roles=policy.roles)


def control(
    folder: Path,
    *edits: Callable[[Policy], Policy],
    settings: AeTitleRules = NOBODY,
    rules: IdentityRules | None = None,
) -> PolicyAccessControl:
    """Access control by a policy that lies in *folder*."""
    file = PolicyFile(folder)
    for edit in edits:
        file.change(edit)
    identities = UserIdentities(rules or IdentityRules(), hooks={})
    return PolicyAccessControl(settings, CurrentPolicy(file), identities)


def heard() -> tuple[Notices, list[Notice]]:
    """Notices, and what was told."""
    told: list[Notice] = []
    return Notices(told.append), told
