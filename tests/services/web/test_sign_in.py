"""Signing in with a browser: passcode, one-time code, cookie, and what ends a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from isocenter.services.net.http.forwarded import TrustedProxies
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    CertificateRule,
    Policy,
    User,
)
from isocenter.services.security.access.sessions import (
    SignedIn,
    SignedOut,
)
from isocenter.services.web.browser_sessions import COOKIE
from isocenter.services.web.sign_in import own_path
from services.web.signed_in import IDLE, MOST, PASSCODE, SECRET, START, Site, opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as found:
        yield found


async def test_who_is_not_known_gets_the_form_and_then_what_was_asked_for(site: Site) -> None:
    answer = await site.client.get("/?name=a%20b&page=2")
    assert answer.status_code == 303
    where = urlsplit(answer.headers["location"])
    assert where.path == "/sign-in"
    assert parse_qs(where.query)["next"] == ["/?name=a%20b&page=2"]
    form = await site.client.get(answer.headers["location"])
    assert 'value="/?name=a%20b&amp;page=2"' in form.text
    answer = await site.sign_in(next="/?name=a%20b&page=2")
    assert answer.headers["location"] == "/?name=a%20b&page=2"


async def test_the_cookie_opens_what_the_policy_gives(site: Site) -> None:
    cookie = await site.cookie()
    page = await site.client.get("/", headers=cookie)
    assert page.status_code == 200
    assert "alice" in page.text
    assert "Sign out" in page.text
    assert await site.status("/upload", cookie) == 403, "viewers store nothing"
    assert [type(one) for one in site.told][:1] == [SignedIn]


async def test_the_cookie_goes_over_tls_to_this_host_only_and_no_script_reads_it(
    site: Site,
) -> None:
    said = (await site.sign_in()).headers["set-cookie"]
    name, *attributes = [part.strip() for part in said.split(";")]
    assert name.startswith(f"{COOKIE}=")
    assert COOKIE.startswith("__Host-")
    assert {*attributes} == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax", f"Max-Age={MOST:g}"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alice", {"passcode": "wrong"}),
        ("alice", {"passcode": ""}),
        ("nobody", {}),
        ("", {}),
        ("gone", {}),
        ("bob", {}),
        ("bob", {"code": "000000"}),
        ("bob", {"code": "x" * 9_000}),
        ("alice", {"passcode": "x" * 9_000}),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), {}),
    ],
)
async def test_whoever_is_not_believed_learns_nothing(
    site: Site, name: str, fields: dict[str, str]
) -> None:
    answer = await site.sign_in(name, **fields)
    assert answer.status_code == 403
    assert "name, passcode or one-time code is wrong, or the user is not active" in answer.text
    assert "set-cookie" not in answer.headers
    assert PASSCODE not in answer.text
    assert [type(one) for one in site.told] == [SignInFailed]


async def test_guessing_ends_after_some_failures(tmp_path: Path) -> None:
    async with opened(tmp_path, most=3) as site:
        for _ in range(3):
            assert (await site.sign_in(passcode="wrong")).status_code == 403
        answer = await site.sign_in()
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0


async def test_wrong_one_time_codes_count_as_failures(tmp_path: Path) -> None:
    async with opened(tmp_path, most=3) as site:
        for _ in range(3):
            assert (await site.sign_in("bob", code="000000")).status_code == 403
        assert (await site.sign_in("bob", code=code_at(site.now))).status_code == 429


def code_at(now: float) -> str:
    return pyotp.TOTP(SECRET).at(int(now))


async def test_a_one_time_code_opens_one_session(site: Site) -> None:
    code = code_at(site.now)
    assert await site.cookie("bob", code=code[:3] + " " + code[3:])
    assert (await site.sign_in("bob", code=code)).status_code == 403
    site.now += 30
    assert await site.cookie("bob", code=code_at(site.now))


@pytest.mark.parametrize(("seconds", "status"), [(-30, 303), (30, 303), (-90, 403), (90, 403)])
async def test_clocks_may_differ_a_little(site: Site, seconds: int, status: int) -> None:
    assert (await site.sign_in("bob", code=code_at(site.now + seconds))).status_code == status


async def test_a_session_ends_when_it_is_not_used(site: Site) -> None:
    cookie = await site.cookie()
    for _ in range(3):
        site.now += IDLE - 1
        assert await site.status("/", cookie) == 200
    site.now += IDLE + 1
    assert await site.status("/", cookie) == 303


async def test_a_session_ends_in_any_case(site: Site) -> None:
    cookie = await site.cookie()
    while site.now < START + MOST - 100:
        assert await site.status("/", cookie) == 200
        site.now += 100
    site.now = START + MOST
    assert await site.status("/", cookie) == 303


async def test_signing_out_ends_it_for_whoever_has_the_cookie(site: Site) -> None:
    cookie = await site.cookie()
    other = await site.cookie()
    answer = await site.client.post("/sign-out", headers={**cookie, "origin": site.root})
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert await site.status("/", cookie) == 303
    assert await site.status("/", other) == 200
    assert SignedOut in [type(one) for one in site.told]


@pytest.mark.parametrize(
    "change",
    [
        lambda user: replace(user, active=False),
        lambda user: replace(user, roles=()),
        lambda user: None,
    ],
)
async def test_a_user_who_may_no_more_is_out_at_once(
    site: Site, change: Callable[[User], User | None]
) -> None:
    cookie = await site.cookie()

    def edit(policy: Policy) -> Policy:
        changed = [change(one) if one.name == "alice" else one for one in policy.users]
        return replace(policy, users=tuple(one for one in changed if one is not None))

    site.file.change(edit)
    site.access.refresh()
    assert await site.status("/", cookie) in (303, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_pages_of_others_change_nothing(site: Site, headers: dict[str, str]) -> None:
    cookie = await site.cookie()
    answer = await site.client.post("/sign-out", headers={**cookie, **headers})
    assert answer.status_code == 403
    assert await site.status("/", cookie) == 200


async def test_nobody_is_signed_in_by_a_page_of_others(site: Site) -> None:
    """Whoever is signed in as somebody else gives away what it then does."""
    answer = await site.client.post(
        "/sign-in",
        data={"name": "alice", "passcode": PASSCODE},
        headers={"origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("value", ["", "x", "0" * 64, "0" * 65, "\xe9" * 10, "0" * 63 + "G"])
async def test_a_made_up_cookie_opens_nothing(site: Site, value: str) -> None:
    answer = await site.client.get(
        "/", headers=[(b"cookie", f"{COOKIE}={value}".encode("latin-1")), (b"accept", b"text/html")]
    )
    assert answer.status_code == 303


async def test_no_passcode_goes_in_the_clear(tmp_path: Path) -> None:
    async with opened(tmp_path, scheme="http") as site:
        for answer in (await site.client.get("/sign-in"), await site.sign_in()):
            assert answer.status_code == 403
            assert "https" in answer.text


@pytest.mark.parametrize(
    ("networks", "public", "status"),
    [
        (("127.0.0.1",), "https://archive.example", 303),
        (("127.0.0.1",), "http://archive.example", 403),
        (("127.0.0.1",), "", 403),
        (("10.0.0.0/8",), "https://archive.example", 403),
    ],
)
async def test_a_proxy_may_speak_TLS_for_us(
    tmp_path: Path, networks: tuple[str, ...], public: str, status: int
) -> None:
    proxies = TrustedProxies(networks=networks)
    async with opened(tmp_path, scheme="http", own_origin=public, proxies=proxies) as site:
        headers = {"origin": "https://archive.example", "x-forwarded-for": "192.0.2.1"}
        data = {"name": "alice", "passcode": PASSCODE}
        answer = await site.client.post("/sign-in", data=data, headers=headers)
        assert answer.status_code == status
        if status == 303:
            cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0], **headers}
            assert await site.status("/", cookie) == 200


async def test_cookies_that_come_one_by_one_are_read(site: Site) -> None:
    """HTTP/2 may split them (RFC 9113 8.2.3)."""
    cookie = (await site.cookie())["cookie"]
    fields = [(b"cookie", part.strip().encode()) for part in cookie.split(";")]
    answer = await site.client.get("/", headers=[*fields, (b"accept", b"text/html")])
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"name=alice", "text/plain", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a=1" for _ in range(99)), "application/x-www-form-urlencoded", 400),
        (b"name=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
async def test_a_form_that_is_none(site: Site, body: bytes, content_type: str, status: int) -> None:
    answer = await site.client.post(
        "/sign-in", content=body, headers={"content-type": content_type, "origin": site.root}
    )
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/", "/"),
        ("/studies/1.2?image=3", "/studies/1.2?image=3"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("/é", "/"),
    ],
)
def test_what_comes_after_signing_in_is_a_page_of_ours(text: str, expected: str) -> None:
    assert own_path(text) == expected


async def test_a_client_certificate_does_in_the_place_of_a_passcode(tmp_path: Path) -> None:
    """The same principal as over DICOMweb, with the roles of its application entities."""
    async with opened(tmp_path) as site:
        entity = ApplicationEntity(
            ae_title="CALLER",
            certificates=(CertificateRule(name="caller"),),
            roles=("Radiologist",),
        )
        site.file.change(lambda policy: replace(policy, entities=(entity,)))
        site.access.refresh()
        shown = {"x-certificate": "caller"}
        page = await site.client.get("/", headers=shown)
        assert page.status_code == 200
        assert "caller</span>" in page.text
        assert "Sign out" not in page.text
        assert await site.status("/upload", shown) == 200
        assert await site.status("/audit", shown) == 403
        form = {**shown, "origin": "https://evil.example"}
        answer = await site.client.post("/studies/1.2/delete", data={"reason": "x"}, headers=form)
        assert answer.status_code == 403
        other = await site.client.get("/", headers={"x-certificate": "another"})
        assert other.status_code == 403
