"""Changes of users as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from isocenter.services.notices import ANONYMOUS, SYSTEM, Caller, Notices
from isocenter.services.security.access.errors import MayNotGiveError, PolicyError
from isocenter.services.security.access.one_time_codes import new_secret
from isocenter.services.security.access.passwords import hash_passcode
from isocenter.services.security.access.permissions import (
    Action,
    Permissions,
    Resource,
    permission_texts,
    union,
    without,
)
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.policy_changes import (
    Check,
    PolicyChanged,
    anything,
    checking,
)
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.security.access.sessions import SessionKeeper

#: Names that no new user gets, and who has them.
RESERVED_NAMES: Final = {
    ANONYMOUS: "whoever has proven nothing",
    SYSTEM: "the archive itself",
}
#: What makes another policy of one.
Edit = Callable[[Policy], Policy]


def check_may_give(permissions: Permissions, given: Permissions) -> None:
    """Whether somebody with *permissions* may have others do what *given* allows.  Whoever may
    change roles gives what they like; everybody else nothing that they have not got.

    Raises:
        MayNotGiveError: they may not; it names what they lack.
    """
    lacking = without(given, permissions)
    if lacking and not permissions.get(Resource.ROLE, Action(0)) & Action.WRITE:
        words = " ".join(permission_texts(lacking))
        raise MayNotGiveError(f"you may give nobody what you have not got: {words} (or role:write)")


def permissions_of(policy: Policy, roles: Iterable[str]) -> Permissions:
    """What roles give together; one that is not there any more gives nothing."""
    return union(policy.all_roles.get(role, {}) for role in roles)


def adding(user: User) -> Edit:
    """An edit that makes a user.

    Raises, when it is applied:
        PolicyError: its name or one of its subjects is taken, or stands for nobody's user.
    """

    def edit(policy: Policy) -> Policy:
        for name in (user.name, *user.subjects):
            if name.casefold() in RESERVED_NAMES:
                raise PolicyError(
                    f"{name!r} is what the audit trail calls {RESERVED_NAMES[name.casefold()]}; "
                    "choose another name"
                )
        if policy.user(user.name) is not None:
            raise PolicyError(f"{user.name} is there already; see isocenter user passwd and role")
        for subject in user.subjects:
            other = policy.user_of_subject(subject)
            if other is not None:
                raise PolicyError(f"{subject!r} means {other.name} already")
        return replace(policy, users=(*policy.users, user))

    return edit


def changing(name: str, change: Callable[[User], User | None]) -> Edit:
    """An edit that changes a user, or forgets it (None).

    Raises, when it is applied:
        PolicyError: there is no such user.
    """

    def edit(policy: Policy) -> Policy:
        if policy.user(name) is None:
            raise PolicyError(f"there is no user {name!r}; isocenter user list shows all")
        changed = ((one if one.name != name else change(one)) for one in policy.users)
        return replace(policy, users=tuple(one for one in changed if one is not None))

    return edit


class UserChanges:
    """Changes users in the file of a policy, and tells who did.

    Nobody changes somebody who may do more than they, nor takes anything from themselves: who did
    would stand before a closed door.

    Args:
        sessions: of browsers; those of a user end when its passcode or roles change.
    """

    def __init__(self, file: PolicyFile, sessions: SessionKeeper, notices: Notices) -> None:
        self._file = file
        self._sessions = sessions
        self._notices = notices
        self._check: Check = anything

    def only_if(self, check: Check) -> UserChanges:
        """The same, which change nothing where *check* raises; it is asked under the lock."""
        found = UserChanges(self._file, self._sessions, self._notices)
        found._check = check
        return found

    async def policy(self) -> Policy:
        """The policy as it is now.

        Raises:
            PolicyError: it cannot be read.
        """
        return await trio.to_thread.run_sync(self._file.read)

    async def add(
        self, name: str, passcode: str, roles: Sequence[str], caller: Caller, may: Permissions
    ) -> None:
        """Make a user.

        Args:
            passcode: empty: by token, ticket or assertion only.
            may: what whoever asks may do.

        Raises:
            PolicyError: it cannot be so, in words; nothing has changed.
        """
        hashed = await _hashed(passcode) if passcode else ""
        user = User(name=name, password_hash=hashed, roles=tuple(roles))

        def edit(policy: Policy) -> Policy:
            changed = adding(user)(policy)
            check_may_give(may, permissions_of(changed, roles))
            return changed

        words = " ".join(roles) or "none"
        await self._change(edit, caller, f"user {name} added, with roles {words}")

    async def set_roles(
        self, name: str, roles: Sequence[str], caller: Caller, may: Permissions
    ) -> None:
        """Give a user other roles.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
        """

        def edit(policy: Policy) -> Policy:
            changed = changing(name, lambda user: replace(user, roles=tuple(roles)))(policy)
            check_may_give(may, permissions_of(changed, roles))
            return changed

        words = " ".join(roles) or "none"
        await self._change_of(name, edit, caller, may, f"user {name} has roles {words}")

    async def set_passcode(
        self, name: str, passcode: str, caller: Caller, may: Permissions
    ) -> None:
        """Give a user another passcode, and end its sessions.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
            StorageError: its sessions could not be ended.
        """
        hashed = await _hashed(passcode)
        edit = changing(name, lambda user: replace(user, password_hash=hashed))
        await self._change_of(
            name, edit, caller, may, f"user {name} has another passcode", is_of_own=True
        )
        await self._sessions.end_all(name)

    async def set_active(
        self, name: str, is_active: bool, caller: Caller, may: Permissions
    ) -> None:
        """Believe a user again, or no more; its sessions are worth nothing from then on.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
        """
        edit = changing(name, lambda user: replace(user, active=is_active))
        words = "activated" if is_active else "deactivated"
        await self._change_of(name, edit, caller, may, f"user {name} {words}")

    async def change(
        self,
        name: str,
        caller: Caller,
        may: Permissions,
        *,
        roles: Sequence[str] | None = None,
        passcode: str | None = None,
        is_active: bool | None = None,
    ) -> None:
        """Change several things of a user at once, or none; what is None stays.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
            StorageError: its sessions could not be ended.
        """
        values: dict[str, Any] = {}
        words = []
        if roles is not None:
            values["roles"] = tuple(roles)
            words.append(f"has roles {' '.join(roles) or 'none'}")
        if passcode is not None:
            values["password_hash"] = await _hashed(passcode)
            words.append("has another passcode")
        if is_active is not None:
            values["active"] = is_active
            words.append("is active" if is_active else "is not active")
        if not values:
            return

        def edit(policy: Policy) -> Policy:
            changed = changing(name, lambda user: replace(user, **values))(policy)
            if roles is not None:
                check_may_give(may, permissions_of(changed, roles))
            return changed

        is_of_own = values.keys() == {"password_hash"}
        what = f"user {name} {', '.join(words)}"
        await self._change_of(name, edit, caller, may, what, is_of_own=is_of_own)
        if passcode is not None:
            await self._sessions.end_all(name)

    async def ask_for_codes(self, name: str, caller: Caller, may: Permissions) -> str:
        """Ask a user for one-time codes from now on; the secret, which is told this once.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
        """
        secret = new_secret()
        edit = changing(name, lambda user: replace(user, totp_secret=secret))
        what = f"user {name} is asked for one-time codes of a new secret"
        await self._change_of(name, edit, caller, may, what, is_of_own=True)
        return secret

    async def ask_for_no_codes(self, name: str, caller: Caller, may: Permissions) -> None:
        """Ask a user for one-time codes no more.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
        """
        edit = changing(name, lambda user: replace(user, totp_secret=""))
        await self._change_of(name, edit, caller, may, f"user {name} is asked for no codes")

    async def remove(self, name: str, caller: Caller, may: Permissions) -> None:
        """Forget a user.

        Raises:
            PolicyError: that cannot be, in words; nothing has changed.
        """
        edit = changing(name, lambda user: None)
        await self._change_of(name, edit, caller, may, f"user {name} removed")

    async def end_session(self, session_id: str, caller: Caller) -> bool:
        """End a session of somebody; False: there is none, or it had ended.

        Raises:
            StorageError: that cannot be written.
        """
        lasting = await self._sessions.lasting()
        session = next((one for one in lasting if one.session_id == session_id), None)
        if session is None or not await self._sessions.end_named(session_id):
            return False
        what = f"a session of user {session.user} from {session.address} ended"
        self._notices.publish(PolicyChanged(caller=caller, what=what))
        return True

    async def _change_of(
        self,
        name: str,
        edit: Edit,
        caller: Caller,
        may: Permissions,
        what: str,
        *,
        is_of_own: bool = False,
    ) -> None:
        """Change a user that is there.

        Args:
            is_of_own: people may do it to themselves.
        """
        if name == caller.user and not is_of_own:
            raise PolicyError("somebody else has to do that to you")

        def checked(policy: Policy) -> Policy:
            user = policy.user(name)
            if user is not None:
                check_may_give(may, permissions_of(policy, user.roles))
            return edit(policy)

        await self._change(checked, caller, what)

    async def _change(self, edit: Edit, caller: Caller, what: str) -> None:
        checked = checking(self._check, edit)
        await trio.to_thread.run_sync(partial(self._file.change, checked))
        self._notices.publish(PolicyChanged(caller=caller, what=what))


async def _hashed(passcode: str) -> str:
    return await trio.to_thread.run_sync(hash_passcode, passcode)
