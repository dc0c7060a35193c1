"""Check of the access policy: whether it can be read, and is enforced."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.findings import Finding, Side, error, warning
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, PolicyFile
from isocenter.services.settings.settings import Settings

_WHAT: Final = "access"


def check_policy(settings: Settings) -> CheckResult:
    """Who may associate, and what decides that; blocks."""
    policy = Policy()
    if not settings.storage.is_in_memory:
        try:
            policy = PolicyFile(Path(settings.storage.data_dir) / ACCESS_FOLDER).read()
        except PolicyError as fault:
            meaning = "isocenter serve does not start"
            return CheckResult(
                _WHAT, str(fault), (error(str(fault), meaning=meaning, side=Side.HERE),)
            )
    enforce = settings.access.enforce
    number = len(policy.entities)
    facts = {"enforce": enforce.value, "application_entities": number, "users": len(policy.users)}
    seen = (
        f"{count(number, 'application entity', 'application entities')}, "
        f"{count(len(policy.users), 'user')}; access.enforce is {enforce.value}: "
    )
    if enforce.holds(bool(number)):
        seen += "the policy decides"
    else:
        seen += "no policy is enforced, and whoever the settings admit may do everything"
    return CheckResult(_WHAT, seen, tuple(_findings(policy, enforce)), facts=facts)


def _findings(policy: Policy, enforce: Enforcement) -> list[Finding]:
    found = []
    if enforce is Enforcement.ALWAYS and not policy.entities:
        found.append(
            warning(
                "nobody may associate: access.enforce is always, and the policy has no application "
                "entity",
                cure="admit them with isocenter ae add; isocenter ae rejected shows who tried",
                side=Side.HERE,
            )
        )
    if enforce is Enforcement.NEVER and policy.entities:
        # That it is never at all is said of the settings.
        found.append(
            warning(
                "the policy has application entities, and is not enforced",
                cure="set access.enforce to auto",
                side=Side.HERE,
            )
        )
    found += [
        warning(
            f"{one.ae_title} is turned away, since the user behind it was deactivated",
            cure=f"activate {one.user} with isocenter user activate, or name another user",
            side=Side.HERE,
        )
        for one in policy.entities
        if one.active and not policy.is_admitted(one)
    ]
    return found
