"""The system on the pages: room, checks, log, components."""

from __future__ import annotations

import logging

import pytest

from services.web.signed_in import Site
from services.web.ui.people import text_of


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-only-state")


async def test_what_takes_the_room_is_counted_when_somebody_asks(
    site: Site, cookie: dict[str, str]
) -> None:
    assert "is being counted" in await text_of(site, cookie, "/storage")
    await site.usage.count()
    page = await text_of(site, cookie, "/storage")
    assert "By modality" in page
    assert "<td>cold</td>" not in page  # nothing is in it
    assert "<td>hot</td><td>online</td>" in page
    assert '<td class="number">3</td>' in page
    assert 'href="/?modality' not in page
    assert "is being counted" not in page


async def test_the_log_is_shown_by_level_and_words(site: Site, cookie: dict[str, str]) -> None:
    log = logging.getLogger("isocenter.somewhere")
    log.addHandler(site.recent)
    try:
        log.warning("disk <b>nearly</b> full")
        log.info("nothing special")
    finally:
        log.removeHandler(site.recent)
    page = await text_of(site, cookie, "/log?level=warning")
    assert "disk &lt;b&gt;nearly&lt;/b&gt; full" in page
    assert "nothing special" not in page
    page = await text_of(site, cookie, "/log?find=SPECIAL")
    assert "nothing special" in page
    assert "nearly" not in page
    assert "No line is like that" in await text_of(site, cookie, "/log?level=error")
    assert "nothing special" in await text_of(site, cookie, "/log?level=loud")


async def test_the_installation_is_looked_at(site: Site, cookie: dict[str, str]) -> None:
    page = await text_of(site, cookie, "/checks")
    assert "Python" in page
    assert "disk" in page


async def test_components_have_versions_and_licences(site: Site, cookie: dict[str, str]) -> None:
    page = await text_of(site, cookie, "/about")
    assert "Isocenter 1.2.3" in page
    assert "OpenSSL" in page
    assert "<td>trio</td>" in page
    assert "MIT" in page
    assert "<td>pytest</td>" not in page
