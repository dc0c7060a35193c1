"""API tokens: what they look like, what is kept, and which are believed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.errors import StorageError
from isocenter.services.security.access.api_tokens import ApiTokenVerifier, new_token
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.security.access.scopes import SCOPES, scopes_in

NOW = 1_700_000_000.0
POLICY = Policy(users=(User(name="carol", roles=("Viewer",)),))


def make(name: str = "viewer", **changes: Any) -> tuple[str, ApiToken]:
    arguments: dict[str, Any] = {
        "policy": POLICY,
        "created_by": "somebody@here",
        "roles": ("Viewer",),
        "expires_at": None,
        "now": NOW,
    }
    return new_token(name, **arguments | changes)


class OneToken:
    """A store of one token; counts what is written, and can fail to."""

    def __init__(self, token: ApiToken) -> None:
        self.token = token
        self.uses = 0
        self.may_write = True

    async def find(self, token_id: str) -> ApiToken | None:
        return self.token if token_id == self.token.token_id else None

    async def note_use(self, token_id: str, now: float) -> None:
        self.uses += 1
        if not self.may_write:
            raise StorageError("the disk is full")

    add = all = revoke = remove = None  # type: ignore[assignment]  # nobody calls them here


def verifier_of(token: ApiToken) -> tuple[ApiTokenVerifier, OneToken]:
    store = OneToken(token)
    return ApiTokenVerifier(store, now=lambda: NOW), store  # type: ignore[arg-type]


def test_of_the_secret_only_a_digest_is_kept() -> None:
    text, token = make()
    prefix, token_id, secret = text.split("_")
    assert (prefix, token_id) == ("iso", token.token_id)
    assert len(bytes.fromhex(secret)) == 32
    assert token.secret_digest == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(token)
    assert make()[0] != text


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"roles": ()}, "name either"),
        ({"user": "carol"}, "name either"),
        ({"roles": (), "user": "nobody"}, "no user 'nobody'"),
        ({"roles": ("Emperor",)}, "no role 'Emperor'"),
        ({"scopes": ("dicomweb.fly",)}, "no scope 'dicomweb.fly'"),
        ({"expires_at": NOW}, "end later"),
        ({"name": ""}, "1 to 64 characters"),
        ({"name": " a"}, "1 to 64 characters"),
        ({"name": "a\nb"}, "1 to 64 characters"),
        ({"name": "a" * 65}, "1 to 64 characters"),
        ({"name": "0a1b2c3d"}, "could be the ID"),
    ],
)
def test_what_cannot_be_made(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(PolicyError, match=fault):
        make(**changes)


async def test_only_the_very_text_is_believed() -> None:
    text, token = make()
    verifier, _ = verifier_of(token)
    assert await verifier.verify(text) is token
    _, token_id, secret = text.split("_")
    for other in (
        f"iso_{token_id}_{'0' * 64}",
        f"iso_00000000_{secret}",
        text.upper(),
        text + "0",
        text[:-1],
        f" {text}",
        f"{text}\n",
        f"iso_{token_id}_",
        f"iso_{token_id}_{token.secret_digest}",
        secret,
    ):
        with pytest.raises(PolicyError) as caught:
            await verifier.verify(other)
        assert secret not in str(caught.value)


@given(st.text(max_size=100))
async def test_anything_else_is_refused(text: str) -> None:
    verifier, _ = verifier_of(make()[1])
    with pytest.raises(PolicyError):
        await verifier.verify(text)


async def test_a_full_disk_keeps_nobody_out() -> None:
    text, token = make()
    verifier, store = verifier_of(token)
    store.may_write = False
    for _ in range(3):
        await verifier.verify(text)
    assert store.uses == 1, "it is tried again when it is due again"


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("dicomweb.read", {"dicomweb.read"}),
        ("openid  dicomweb.read pacs.admin", {"dicomweb.read", "pacs.admin"}),
        (["dicomweb.write", "profile"], {"dicomweb.write"}),
        ("", set()),
        (None, set()),
        (17, set()),
        ({"dicomweb.read": 1}, set()),
        ([{"a": 1}], set()),
        ("DICOMWEB.READ dicomweb.readx", set()),
    ],
)
def test_scopes_in_a_claim(claim: object, scopes: set[str]) -> None:
    assert scopes_in(claim) == scopes
    assert scopes_in(" ".join(SCOPES)) == set(SCOPES)
