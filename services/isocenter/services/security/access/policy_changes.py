"""Changes of a policy as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, Notices, WingNotice
from isocenter.services.security.access.errors import PolicyError
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


class PolicyChanges:
    """Changes the policy in a file, and tells who did."""

    def __init__(self, file: PolicyFile, notices: Notices) -> None:
        self._file = file
        self._notices = notices

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

    async def _change(self, edit: Callable[[Policy], Policy], caller: Caller, what: str) -> None:
        await trio.to_thread.run_sync(partial(self._file.change, edit))
        self._notices.publish(PolicyChanged(caller=caller, what=what))


def _known(policy: Policy, ae_title: str) -> ApplicationEntity | None:
    """The entity that is written so; patterns are what they are."""
    return next((one for one in policy.entities if one.ae_title == ae_title), None)
