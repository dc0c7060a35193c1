"""Page of a study's publications."""

from __future__ import annotations

from services.archive_support import STUDY, store
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


async def test_a_page_shows_and_changes_it(site: Site) -> None:
    await store(site.parts.archive, 1)
    cookie = await site.cookie("a-system")
    path = f"/studies/{STUDY}/publish"
    assert f'href="{path}"' in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "not published" in await text_of(site, cookie, path)
    answer = await post(site, cookie, path, repository="regional")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/jobs/")
    assert "waiting" in await text_of(site, cookie, path)
    await site.parts.stores.publications.tried(
        "regional", STUDY, "it answered 503", at=1.0, next_attempt_at=2.0
    )
    assert "it answered 503" in await text_of(site, cookie, path)
    behind = await text_of(site, cookie, "/publications")
    assert f'<a href="{path}">' in behind
    assert STUDY not in behind.replace(path, "")  # it is named by its patient
    assert "it answered 503" in behind
    # Who may not search learns no patient.
    others = await text_of(site, await site.cookie("a-only-export"), "/publications")
    assert f'<a href="{path}"><code>{STUDY}</code></a>' in others
    assert (await post(site, cookie, path, repository="nowhere")).status_code == 404
