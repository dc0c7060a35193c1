"""Users, roles, tokens and devices in the API; what cannot be, and who may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isocenter.services.security.access.passwords import verify_passcode
from isocenter.services.security.access.permissions import Action, Resource
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.access.rejected_callers import RejectedCaller, RejectedFile
from isocenter.services.security.access.token_changes import TokenChanged
from services.web.rest.asking import ask, refused
from services.web.signed_in import ALICE, PASSCODE, Site

USERS, ROLES_, TOKENS = "/security/users", "/security/roles", "/security/tokens"
DEVICES, REJECTED = "/security/ae-titles", "/security/rejected-callers"


def changes(site: Site) -> list[str]:
    """What was told of the policy, in words."""
    return [one.what for one in site.told if isinstance(one, PolicyChanged)]


# -- Users --------------------------------------------------------------------------------


async def test_a_user_is_made_changed_and_forgotten(site: Site) -> None:
    body = {"id": "carol", "passcode": "a long passcode", "roles": ["Viewer"]}
    answer = await ask(site, "POST", USERS, body)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/security/users/carol"
    assert answer.json() == {
        "name": "carol", "roles": ["Viewer"], "subjects": [], "is_active": True,
        "has_passcode": True, "has_codes": False,
    }  # fmt: skip
    assert await refused(site, "POST", USERS, body) == (409, "CONFLICT")
    seen = (await ask(site, "GET", f"{USERS}/carol")).headers["etag"]
    change = {"roles": ["Technologist"], "is_active": False, "passcode": "another passcode"}
    answer = await ask(site, "PUT", f"{USERS}/carol", change, if_match=seen)
    assert answer.json()["roles"] == ["Technologist"]
    assert not answer.json()["is_active"]
    user = site.file.read().user("carol")
    assert user is not None
    assert verify_passcode(user.password_hash, b"another passcode")
    assert await refused(site, "PUT", f"{USERS}/carol", {"roles": []}, if_match=seen) == (
        412, "CHANGED",
    )  # fmt: skip
    answer = await ask(site, "POST", f"{USERS}/carol/roles", {"role": "Viewer"})
    assert answer.json()["roles"] == ["Technologist", "Viewer"]
    assert await refused(site, "POST", f"{USERS}/carol/roles", {"role": "King"}) == (
        400, "INVALID_ROLE",
    )  # fmt: skip
    answer = await ask(site, "DELETE", f"{USERS}/carol/roles/Technologist")
    assert answer.json()["roles"] == ["Viewer"]
    assert (await refused(site, "DELETE", f"{USERS}/carol/roles/Technologist"))[0] == 404
    assert (await ask(site, "DELETE", f"{USERS}/carol")).status_code == 204
    assert (await refused(site, "DELETE", f"{USERS}/carol"))[0] == 404
    assert len(changes(site)) == 5
    assert changes(site)[-1] == "user carol removed"


async def test_what_is_changed_at_once_is_changed_as_a_whole_or_not(site: Site) -> None:
    before = site.file.read()
    for change in (
        {"passcode": "another passcode", "roles": ["King"]},
        {"roles": ["Viewer"], "passcode": ""},
    ):
        assert (await refused(site, "PUT", f"{USERS}/alice", change))[0] == 400
    assert site.file.read() == before
    assert (await ask(site, "PUT", f"{USERS}/alice", {})).is_success
    assert not changes(site)


async def test_users_are_listed_page_by_page(site: Site) -> None:
    names, path = [], f"{USERS}?limit=2"
    while path:
        answer = await ask(site, "GET", path)
        page = answer.json()
        names += [one["name"] for one in page["data"]]
        assert page["pagination"]["total"] == 3
        after = page["pagination"]["next"]
        path = f"{USERS}?limit=2&after={after}" if after else ""
        assert ("link" in answer.headers) is bool(after)
    assert names == ["alice", "bob", "gone"]


async def test_one_time_codes_are_asked_for_and_no_more(site: Site) -> None:
    codes = (await ask(site, "POST", f"{USERS}/alice/codes")).json()
    user = site.file.read().user("alice")
    assert user is not None
    assert user.totp_secret == codes["secret"]
    assert codes["uri"].startswith("otpauth://totp/")
    assert (await ask(site, "DELETE", f"{USERS}/alice/codes")).status_code == 204
    assert (await ask(site, "GET", f"{USERS}/alice")).json()["has_codes"] is False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"id": ""}, "user name"),
        ({"id": " x"}, "user name"),
        ({"id": "dave", "roles": ["King"]}, "no role"),
        ({"id": "dave", "username": "Dave"}, "one name"),
        ({"username": "dave"}, "missing required field `id`"),
        ({"id": "dave", "password": "x"}, "did you mean passcode?"),
    ],
)
async def test_a_user_that_cannot_be_is_told(
    site: Site, body: dict[str, object], said: str
) -> None:
    answer = await ask(site, "POST", USERS, body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert not changes(site)


async def test_nobody_gives_what_they_have_not_got(site: Site) -> None:
    """Who may change users and no roles makes no administrators of them, nor of themselves."""
    gives = {Resource.USER: Action.READ | Action.WRITE}
    desk = replace(ALICE, name="desk", roles=("Desk",))
    site.file.change(
        lambda policy: replace(policy, roles={"Desk": gives}, users=(*policy.users, desk))
    )
    site.access.refresh()
    token = await site.token(user="desk")
    body = {"id": "carol", "roles": ["Administrator"]}
    assert await refused(site, "POST", USERS, body, **token) == (403, "NOT_ALLOWED")
    assert await refused(site, "PUT", f"{USERS}/desk", {"roles": []}, **token) == (
        400, "INVALID_REQUEST",
    )  # fmt: skip
    assert await refused(site, "POST", TOKENS, {"name": "mine", "roles": ["System"]}, **token) == (
        403,
        "NOT_ALLOWED",
    )
    assert (await ask(site, "POST", USERS, {"id": "carol", "roles": []}, **token)).is_success


async def test_sessions_are_listed_and_ended(site: Site) -> None:
    cookie = await site.cookie()
    (shown,) = (await ask(site, "GET", "/security/sessions")).json()["data"]
    assert (shown["user"], shown["address"]) == ("alice", "127.0.0.1")
    assert await site.status("/", cookie) == 200
    path = f"/security/sessions/{shown['id']}"
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert (await refused(site, "DELETE", path))[0] == 404
    assert await site.status("/", cookie) == 303


# -- Roles --------------------------------------------------------------------------------


async def test_a_role_is_made_changed_and_forgotten(site: Site) -> None:
    path = f"{ROLES_}/Night"
    answer = await ask(site, "PUT", path, {"permissions": ["study:read", "C-FIND"]})
    assert answer.json() == {
        "name": "Night", "permissions": ["study:read", "metadata:read"],
        "is_built_in": False, "is_of_policy": True,
    }  # fmt: skip
    seen = answer.headers["etag"]
    body = {"permissions": ["study:full"]}
    assert (await ask(site, "PUT", path, body, if_match=seen)).is_success
    assert (await refused(site, "PUT", path, body, if_match=seen))[0] == 412
    await ask(site, "PUT", f"{USERS}/alice", {"roles": ["Night"]})
    answer = await ask(site, "DELETE", path)
    assert "give alice another role first" in answer.json()["detail"]
    await ask(site, "PUT", f"{USERS}/alice", {"roles": []})
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert (await refused(site, "GET", path))[0] == 404
    body = {"permissions": ["study:fly"]}
    assert "is no permission" in (await ask(site, "PUT", path, body)).json()["detail"]


async def test_a_built_in_role_is_replaced_and_comes_back(site: Site) -> None:
    path = f"{ROLES_}/Viewer"
    built_in = (await ask(site, "GET", path)).json()
    assert built_in["is_built_in"]
    assert (await refused(site, "DELETE", path))[0] == 400
    await ask(site, "PUT", path, {"permissions": []})
    assert (await ask(site, "GET", path)).json()["permissions"] == []
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert (await ask(site, "GET", path)).json() == built_in
    names = [one["name"] for one in (await ask(site, "GET", ROLES_)).json()["data"]]
    assert names == sorted(names)
    assert {"Viewer", "System"} <= set(names)


async def test_nobody_shuts_themselves_out(site: Site) -> None:
    site.file.change(
        lambda policy: replace(
            policy, users=(*policy.users, replace(policy.users[0], name="root", roles=("System",)))
        )
    )
    site.access.refresh()
    token = await site.token(user="root")
    answer = await ask(site, "PUT", f"{ROLES_}/System", {"permissions": []}, **token)
    assert "somebody else has to do it" in answer.json()["detail"]


# -- Tokens -------------------------------------------------------------------------------


async def test_a_token_is_made_used_and_revoked(site: Site) -> None:
    body = {"name": "reports", "roles": ["System"], "scopes": ["pacs.admin"], "days": 3}
    answer = await ask(site, "POST", TOKENS, body)
    assert answer.status_code == 201
    made = answer.json()
    bearer = {"authorization": f"Bearer {made['token']}"}
    assert (await ask(site, "GET", "/system/status", **bearer)).is_success
    me = (await ask(site, "GET", "/auth/me", **bearer)).json()
    assert (me["token_id"], me["scopes"]) == (made["kept"]["id"], ["pacs.admin"])
    (shown,) = (await ask(site, "GET", f"{TOKENS}?state=valid")).json()["data"]
    assert shown["name"] == "reports"
    assert made["token"] not in str(shown)
    path = f"{TOKENS}/{shown['id']}"
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert (await refused(site, "DELETE", path))[0] == 404
    assert (await refused(site, "GET", "/system/status", **bearer))[0] == 401
    assert [one.is_new for one in site.told if isinstance(one, TokenChanged)] == [True, False]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "x"}, "one user, or of roles"),
        ({"name": "x", "user": "nobody"}, "no user"),
        ({"name": "x", "roles": ["King"]}, "no role"),
        ({"name": "x", "roles": ["Viewer"], "scopes": ["all"]}, "no scope"),
        ({"name": "x", "roles": ["Viewer"], "days": 0}, "from 1 to"),
        ({"name": "", "roles": ["Viewer"]}, "name of a token"),
    ],
)
async def test_a_token_that_cannot_be_is_told(
    site: Site, body: dict[str, object], said: str
) -> None:
    answer = await ask(site, "POST", TOKENS, body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


# -- Devices ------------------------------------------------------------------------------


async def test_a_device_is_admitted_changed_turned_away_and_forgotten(site: Site) -> None:
    await site.cookie()  # somebody is there while the policy gets its first entity
    token = await site.token(roles=("System",))
    body = {"ae_title": "CT 1", "addresses": ["10.0.0.0/24"], "description": "second floor"}
    answer = await ask(site, "POST", DEVICES, body, **token)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/security/ae-titles/CT%201"
    assert answer.json()["roles"] == ["Modality"]
    assert await refused(site, "POST", DEVICES, body, **token) == (409, "CONFLICT")
    path = f"{DEVICES}/CT%201"
    answer = await ask(site, "GET", path, **token)
    seen, device = answer.headers["etag"], answer.json()
    device |= {"roles": ["Viewer"], "denied": ["C-GET"], "certificates": [{"name": "ct1"}]}
    answer = await ask(site, "PUT", path, device, **token, if_match=seen)
    assert answer.json()["denied"] == ["study:read+export"]
    assert (await refused(site, "PUT", path, device, **token, if_match=seen))[0] == 412
    answer = await ask(site, "POST", f"{path}/turn-away", **token)
    assert answer.json()["active"] is False
    # Admitted again, it has what it had.
    answer = await ask(site, "POST", DEVICES, body, **token)
    assert (answer.json()["active"], answer.json()["roles"]) == (True, ["Viewer"])
    assert (await ask(site, "DELETE", path, **token)).status_code == 204
    assert (await refused(site, "DELETE", path, **token))[0] == 404
    assert len(changes(site)) == 5


async def test_who_was_turned_away_is_listed_and_admitted(site: Site) -> None:
    token = await site.token(roles=("System",))
    callers = [
        RejectedCaller(
            address="10.0.0.9", calling_ae_title=title, called_ae_title="ARCHIVE", certificate="",
            count=4, first="2026-11-29T10:00:00+00:00", last=f"2026-11-29T1{hour}:00:00+00:00",
            why="AE title not in the policy", cure="isocenter ae add",
        )
        for hour, title in enumerate(("CT1", "CT2", "CT3"))
    ]  # fmt: skip
    RejectedFile(site.file.folder).add(callers)
    first = (await ask(site, "GET", f"{REJECTED}?limit=2", **token)).json()
    assert [one["calling_ae_title"] for one in first["data"]] == ["CT3", "CT2"]
    path = f"{REJECTED}?after={first['pagination']['next']}"
    (last,) = (await ask(site, "GET", path, **token)).json()["data"]
    assert (last["calling_ae_title"], last["is_admitted"]) == ("CT1", False)
    body = {"ae_title": "CT1", "addresses": [last["address"]]}
    assert (await ask(site, "POST", DEVICES, body, **token)).status_code == 201
    (last,) = (await ask(site, "GET", path, **token)).json()["data"]
    assert last["is_admitted"]
    assert (await ask(site, "DELETE", REJECTED, **token)).json() == {"count": 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ae_title": ""}, "AE title"),
        ({"addresses": ["10.0.0.300"]}, "address or network"),
        ({"roles": ["King"]}, "no role"),
        ({"allowed": ["study:fly"]}, "is no permission"),
        ({"sop_classes": ["x"]}, "is no UID"),
        ({"certificates": [{}]}, "needs a fingerprint"),
        ({"certificates": [{"fingerprint": "xy"}]}, "is no SHA-256"),
        ({"description": "two\nlines"}, "one line"),
    ],
)
async def test_a_device_that_cannot_be_is_told(
    site: Site, change: dict[str, object], said: str
) -> None:
    answer = await ask(site, "POST", DEVICES, {"ae_title": "CT1", **change})
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert not site.file.read().entities


# -- Sign-in ------------------------------------------------------------------------------


async def test_a_session_is_begun_shown_and_ended(site: Site) -> None:
    body = {"name": "alice", "passcode": PASSCODE}
    answer = await site.client.post("/api/v1/auth/login", json=body)
    assert answer.json() == {"user": "alice"}
    cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    me = (await ask(site, "GET", "/auth/me", **cookie)).json()
    assert (me["user"], me["is_session"]) == ("alice", True)
    assert "study:read" in me["permissions"]
    assert (await ask(site, "POST", "/auth/refresh", **cookie, origin=site.root)).is_success
    ended = await ask(site, "POST", "/auth/logout", **cookie, origin=site.root)
    assert ended.status_code == 204
    assert (await refused(site, "GET", "/auth/me", **cookie))[0] == 401


async def test_who_is_not_believed_gets_no_session(site: Site) -> None:
    for body in ({"name": "alice", "passcode": "x"}, {"name": "bob", "passcode": PASSCODE}):
        answer = await site.client.post("/api/v1/auth/login", json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "NOT_SIGNED_IN")
        assert "set-cookie" not in answer.headers
    evil = {"origin": "https://evil.example"}
    body = {"name": "alice", "passcode": PASSCODE}
    answer = await site.client.post("/api/v1/auth/login", json=body, headers=evil)
    assert answer.status_code == 403
