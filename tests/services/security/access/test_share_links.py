"""Links to one study: their text, their end, and what they give."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import Action, Resource
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.ports import ShareLink
from isocenter.services.security.access.share_links import (
    ShareLinkVerifier,
    link_permissions,
    new_link,
)

NOW = 1_700_000_000.0


class Links:
    """Links in memory."""

    def __init__(self, *links: ShareLink) -> None:
        self.by_id = {link.link_id: link for link in links}

    async def find(self, link_id: str) -> ShareLink | None:
        return self.by_id.get(link_id)


def made(**options: Any) -> tuple[str, ShareLink]:
    return new_link("1.2.3", **{"created_by": "alice", "now": NOW, **options})


def verifier(*links: ShareLink, now: float = NOW) -> ShareLinkVerifier:
    return ShareLinkVerifier(Links(*links), lambda: now)  # type: ignore[arg-type]  # as far as asked


async def test_a_link_is_believed_until_it_ends_or_is_revoked() -> None:
    text, link = made(days=2)
    assert re.fullmatch(r"isl_[0-9a-f]{8}_[0-9a-f]{64}", text)
    assert text.split("_")[2] not in repr(link)
    assert await verifier(link).verify(text) == link
    for state, now, kept in (
        ("expired", NOW + 2 * 86_400, link),
        ("revoked", NOW, replace(link, revoked_at=NOW)),
    ):
        with pytest.raises(PolicyError, match=state):
            await verifier(kept, now=now).verify(text)
        assert await verifier(kept, now=now).still_valid(link.link_id) is None


async def test_another_secret_opens_nothing() -> None:
    text, link = made()
    other, _ = made()
    for wrong in (
        other,
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        f"{text[:13]}{other[13:]}",
        text.upper(),
        "",
        "isl_",
        text + "0",
    ):
        with pytest.raises(PolicyError) as refused:
            await verifier(link).verify(wrong)
        assert link.link_id not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [{"days": 0}, {"days": 366}, {"label": "x" * 101}, {"label": "a\nb"}, {"passcode": "short"}],
)
def test_what_makes_no_link_is_told(options: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        made(**options)


def test_a_link_of_a_viewer_lasts_an_hour() -> None:
    _, link = made(is_for_viewer=True, days=300)
    assert link.expires_at == NOW + 3_600


@pytest.mark.parametrize(
    ("role", "is_active", "options", "is_good"),
    [
        ("Radiologist", True, {}, True),
        ("Radiologist", True, {"may_download": True}, True),
        ("Radiologist", False, {}, False),
        ("Viewer", True, {}, False),  # only who may export gives away
        ("Viewer", True, {"is_for_viewer": True}, True),
        ("Modality", True, {"is_for_viewer": True, "may_download": True}, False),
    ],
)
def test_it_gives_no_more_than_its_maker_may(
    role: str, is_active: bool, options: dict[str, Any], is_good: bool
) -> None:
    _, link = made(user="alice", **options)
    policy = Policy(users=(User(name="alice", roles=(role,), active=is_active),))
    if is_good:
        export = Action.EXPORT if link.may_download else Action(0)
        assert link_permissions(link, policy) == {
            Resource.METADATA: Action.READ, Resource.STUDY: Action.READ | export,
        }  # fmt: skip
        with pytest.raises(PolicyError):
            link_permissions(link, Policy())
    else:
        with pytest.raises(PolicyError):
            link_permissions(link, policy)


def test_one_that_the_command_made_needs_no_user() -> None:
    _, link = made(may_download=True)
    assert Resource.STUDY in link_permissions(link, Policy())
