"""Changes of a policy as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, Notices, WingNotice
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import (
    ROLES,
    Permissions,
    permission_texts,
    without,
)
from isocenter.services.security.access.policy import ApplicationEntity, Policy, with_entity
from isocenter.services.security.access.policy_file import PolicyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged(WingNotice):
    """Somebody has changed who may do what.

    Attributes:
        what: in words.
    """

    caller: Caller
    what: str


#: Looks at a policy that is to be changed, and raises where that may not be.
Check = Callable[[Policy], None]


def anything(policy: Policy) -> None:
    """A `Check` that never raises."""


def checking(check: Check, edit: Callable[[Policy], Policy]) -> Callable[[Policy], Policy]:
    """An edit before which the policy is looked at."""

    def checked(policy: Policy) -> Policy:
        check(policy)
        return edit(policy)

    return checked


class PolicyChanges:
    """Changes the policy in a file, and tells who did."""

    def __init__(self, file: PolicyFile, notices: Notices, check: Check = anything) -> None:
        self._file = file
        self._notices = notices
        self._check = check

    def only_if(self, check: Check) -> PolicyChanges:
        """The same, which change nothing where *check* raises; it is asked under the lock."""
        return PolicyChanges(self._file, self._notices, check)

    async def policy(self) -> Policy:
        """The policy as it is now.

        Raises:
            PolicyError: it cannot be read.
        """
        return await trio.to_thread.run_sync(self._file.read)

    async def admit(self, entity: ApplicationEntity, caller: Caller) -> None:
        """Admit an application entity; one of that title that is turned away is admitted again,
        with what it had.

        Raises:
            PolicyError: it is admitted already, or the policy cannot be written.
        """

        def edit(policy: Policy) -> Policy:
            known = _known(policy, entity.ae_title)
            if known is not None and known.active:
                raise PolicyError(f"{entity.ae_title} is admitted already")
            admitted = entity if known is None else replace(known, active=True)
            return replace(policy, entities=with_entity(policy, admitted))

        await self._change(edit, caller, f"application entity {entity.ae_title} admitted")

    async def turn_away(self, ae_title: str, caller: Caller) -> None:
        """Turn an application entity away; what it may do is kept for when it is admitted again.

        Raises:
            PolicyError: there is none of that title, or the policy cannot be written.
        """

        def edit(policy: Policy) -> Policy:
            known = _known(policy, ae_title)
            if known is None:
                raise PolicyError(f"{ae_title} is not in the policy")
            return replace(policy, entities=with_entity(policy, replace(known, active=False)))

        await self._change(edit, caller, f"application entity {ae_title} turned away")

    async def put(self, entity: ApplicationEntity, caller: Caller) -> None:
        """Admit an application entity, or put it in the place of the one of that title.

        Raises:
            PolicyError: the policy cannot be written.
        """

        def edit(policy: Policy) -> Policy:
            return replace(policy, entities=with_entity(policy, entity))

        await self._change(edit, caller, f"application entity {entity.ae_title} changed")

    async def remove(self, ae_title: str, caller: Caller) -> None:
        """Forget an application entity, and what it may do.

        Raises:
            PolicyError: there is none of that title, or the policy cannot be written.
        """

        def edit(policy: Policy) -> Policy:
            if _known(policy, ae_title) is None:
                raise PolicyError(f"{ae_title} is not in the policy")
            return replace(
                policy, entities=tuple(e for e in policy.entities if e.ae_title != ae_title)
            )

        await self._change(edit, caller, f"application entity {ae_title} removed")

    async def put_role(self, name: str, permissions: Permissions, caller: Caller) -> None:
        """Make a role, or give it other permissions.

        Raises:
            PolicyError: it would take something from whoever asks, or the policy cannot be
                written.
        """

        def edit(policy: Policy) -> Policy:
            changed = replace(policy, roles={**policy.roles, name: permissions})
            _check_keeps(policy, changed, caller)
            return changed

        words = " ".join(permission_texts(permissions)) or "nothing"
        await self._change(edit, caller, f"role {name} gives {words}")

    async def remove_role(self, name: str, caller: Caller) -> None:
        """Forget a role that the policy has; one that there is anyway is what it was.

        Raises:
            PolicyError: somebody has it, it is not of the policy, or the policy cannot be written.
        """

        def edit(policy: Policy) -> Policy:
            if name not in policy.roles:
                raise PolicyError(f"the policy has no role {name!r} of its own")
            holders = [one.name for one in policy.users if name in one.roles]
            holders += [one.ae_title for one in policy.entities if name in one.roles]
            if holders and name not in ROLES:
                raise PolicyError(f"give {', '.join(holders)} another role first")
            kept = {role: gives for role, gives in policy.roles.items() if role != name}
            changed = replace(policy, roles=kept)
            _check_keeps(policy, changed, caller)
            return changed

        await self._change(edit, caller, f"role {name} removed")

    async def _change(self, edit: Callable[[Policy], Policy], caller: Caller, what: str) -> None:
        checked = checking(self._check, edit)
        await trio.to_thread.run_sync(partial(self._file.change, checked))
        self._notices.publish(PolicyChanged(caller=caller, what=what))


def _known(policy: Policy, ae_title: str) -> ApplicationEntity | None:
    """The entity that is written so; patterns are what they are."""
    return next((one for one in policy.entities if one.ae_title == ae_title), None)


def _check_keeps(before: Policy, after: Policy, caller: Caller) -> None:
    """Nobody takes anything from themselves: who did would stand before a closed door."""
    user = before.user(caller.user)
    if user is not None and without(before.permissions(None, user), after.permissions(None, user)):
        raise PolicyError("that would take something from you; somebody else has to do it")
