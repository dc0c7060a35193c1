"""Settings on the pages: found, explained, changed, put back."""

from __future__ import annotations

import re

import pytest

from isocenter.services.notices import SettingsChanged
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-administrator")


def before(page: str) -> str:
    (found,) = re.findall(r'name="before" value="([^"]*)"', page)
    return str(found).replace("&#34;", '"')


async def change(site: Site, cookie: dict[str, str], key: str, value: str) -> tuple[int, str]:
    shown = before(await text_of(site, cookie, f"/settings/{key}"))
    answer = await post(site, cookie, f"/settings/{key}", value=value, before=shown)
    return answer.status_code, answer.text


async def value_of(site: Site, key: str) -> object:
    assert site.configuration is not None
    return next(one for one in await site.configuration.settings() if one.key == key).value


async def test_settings_are_found_by_key_and_purpose(site: Site, cookie: dict[str, str]) -> None:
    page = await text_of(site, cookie, "/settings?section=web")
    assert 'href="/settings/web.max_results"' in page
    assert "commitment." not in page
    found = await text_of(site, cookie, "/settings?find=COMMITMENT")
    assert 'href="/settings/commitment.' in found
    assert "web.max_results" not in found
    chosen = await text_of(site, cookie, "/settings")
    assert "storage.durability" in chosen
    assert "web.max_results" not in chosen
    assert "No setting is like that" in await text_of(site, cookie, "/settings?find=nothing!")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("web.max_results", "77", 77),
        ("web.pages", "false", False),
        ("server.ae_title", "OTHER", "OTHER"),
        ("storage.duplicates", "reject", "reject"),
        ("web.cors_origins", "https://a.example\r\n\r\nhttps://b.example\r\n",
         ["https://a.example", "https://b.example"]),
        ("events.quiet_by_modality", '{"US": 300}', {"US": 300}),
    ],
)  # fmt: skip
async def test_settings_are_changed_and_put_back(
    site: Site, cookie: dict[str, str], key: str, text: str, value: object
) -> None:
    was = await value_of(site, key)
    assert (await change(site, cookie, key, text))[0] == 303
    assert await value_of(site, key) == value
    assert "in use after a restart only" in await text_of(site, cookie, "/settings")
    assert key in await text_of(site, cookie, "/settings?set=yes")
    assert (await post(site, cookie, f"/settings/{key}/reset")).status_code == 303
    assert await value_of(site, key) == was
    told = [one for one in site.told if isinstance(one, SettingsChanged)]
    assert [(one.keys, one.caller.user) for one in told] == 2 * [((key,), "a-administrator")]


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("web.max_results", "many", "that is no number"),
        ("web.max_results", "-1", "must be"),
        ("server.ae_title", "<b>", ""),
        ("server.ae_title", "A\\B", "must be"),
        ("web.cors_origins", "nowhere", "must be"),
        ("events.quiet_by_modality", "{US = 300}", "that is no JSON"),
        ("peers", '[{"ae_title": "<x>"}]', "peers"),
    ],
)
async def test_what_cannot_be_is_told_with_what_was_written(
    site: Site, cookie: dict[str, str], key: str, text: str, said: str
) -> None:
    was = await value_of(site, key)
    status, page = await change(site, cookie, key, text)
    assert "<b>" not in page.replace("<b>ARCHIVE", "")
    if not said:
        assert status == 303
        return
    assert status == 400
    assert said in page
    assert await value_of(site, key) == was


async def test_a_form_that_is_older_than_a_change_changes_nothing(
    site: Site, cookie: dict[str, str]
) -> None:
    old = before(await text_of(site, cookie, "/settings/web.max_results"))
    assert (await change(site, cookie, "web.max_results", "77"))[0] == 303
    answer = await post(site, cookie, "/settings/web.max_results", value="88", before=old)
    assert answer.status_code == 400
    assert "somebody else has changed it" in answer.text
    assert await value_of(site, "web.max_results") == 77


async def test_what_an_option_sets_and_what_is_secret_has_no_form(
    site: Site, cookie: dict[str, str]
) -> None:
    page = await text_of(site, cookie, "/settings/storage.durability")
    assert "wins over any change here" in page
    assert 'name="value"' not in page
    page = await text_of(site, cookie, "/settings/tls.key_password")
    assert "files and variables only" in page
    assert 'name="value"' not in page
    assert (await site.client.get("/settings/no.such", headers=cookie)).status_code == 404
