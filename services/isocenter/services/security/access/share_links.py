"""Links to one study, for some days or for a viewer.

A link holds ``isl_ID_SECRET``, as API tokens do, and of the secret only a digest is kept.  It gives
one study to look at, and to download where that was allowed; never more than whoever has made it
may still do.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, WingNotice
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.passwords import hash_passcode
from isocenter.services.security.access.permissions import Action, Permissions, Resource
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import ShareLink, ShareLinks

PREFIX: Final = "isl_"
MOST_DAYS: Final = 365
#: Of a link for a viewer: it is opened at once, and loads a study for some time.
VIEWER_SECONDS: Final = 3_600.0
_TOKEN: Final = re.compile(r"isl_([0-9a-f]{8})_([0-9a-f]{64})")
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_MOST_LABEL: Final = 100
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLinkChanged(WingNotice):
    """A link was made or revoked."""

    caller: Caller
    link: ShareLink
    is_new: bool


def new_link(
    study_instance_uid: str,
    *,
    created_by: str,
    user: str = "",
    label: str = "",
    days: int = 7,
    may_download: bool = False,
    passcode: str = "",
    is_for_viewer: bool = False,
    now: float,
) -> tuple[str, ShareLink]:
    """A new link: its text, which is nowhere kept, and what is.  Blocks, where it has a passcode.

    Raises:
        PolicyError: it cannot be made so.
    """
    if not 1 <= days <= MOST_DAYS:
        raise PolicyError(f"a link lasts 1 to {MOST_DAYS} days")
    if not (len(label) <= _MOST_LABEL and label.isprintable()):
        raise PolicyError(f"for whom a link is, is said in {_MOST_LABEL} characters on one line")
    link_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    lasts = VIEWER_SECONDS if is_for_viewer else days * _DAY_SECONDS
    link = ShareLink(
        link_id=link_id,
        secret_digest=_digest(secret),
        study_instance_uid=study_instance_uid,
        label=label,
        may_download=may_download,
        passcode_hash=hash_passcode(passcode) if passcode else "",
        user=user,
        created_by=created_by,
        is_for_viewer=is_for_viewer,
        created_at=now,
        expires_at=now + lasts,
    )
    return f"{PREFIX}{link_id}_{secret}", link


class ShareLinkVerifier:
    """Verifies links by what is kept now: one that was revoked a moment ago is not believed."""

    def __init__(self, links: ShareLinks, now: Callable[[], float] = time) -> None:
        self.links = links
        self.now = now

    async def verify(self, text: str) -> ShareLink:
        """The link that *text* is.

        Raises:
            PolicyError: it is not believed; the message says why, and nothing of the secret.
            StorageError: the links cannot be read.
        """
        parts = _TOKEN.fullmatch(text)
        if parts is None:
            raise PolicyError("it is not written as a link is")
        link = await self.links.find(parts[1])
        is_right = hmac.compare_digest(
            link.secret_digest if link is not None else _NOBODYS, _digest(parts[2])
        )
        if link is None or not is_right:
            raise PolicyError("there is no such link")
        state = link.state(self.now())
        if state != "valid":
            raise PolicyError(f"the link {link.link_id} is {state}")
        return link

    async def still_valid(self, link_id: str) -> ShareLink | None:
        """A link that was verified before, as it is now; None: it is not believed any more.

        Raises:
            StorageError: the links cannot be read.
        """
        link = await self.links.find(link_id)
        return link if link is not None and link.state(self.now()) == "valid" else None


def link_permissions(link: ShareLink, policy: Policy) -> Permissions:
    """What a link gives by the policy of now, of its one study.

    Raises:
        PolicyError: whoever has made it may not do so much any more.
    """
    study = Action.READ | Action.EXPORT if link.may_download else Action.READ
    wanted = {Resource.METADATA: Action.READ, Resource.STUDY: study}
    if link.user:
        user = policy.user(link.user)
        if user is None or not user.active:
            raise PolicyError(f"who has made the link {link.link_id} is not active")
        has = policy.permissions(None, user)
        needs = study if link.is_for_viewer else study | Action.EXPORT
        if needs & ~has.get(Resource.STUDY, Action(0)):
            raise PolicyError(f"who has made the link {link.link_id} may not do that any more")
    return wanted


def link_owner(link: ShareLink) -> str:
    """What the link is called in log and audit."""
    return f"link {link.link_id}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


_NOBODYS: Final = _digest(secrets.token_hex(_SECRET_BYTES))
