"""Page of locks."""

from __future__ import annotations

from isocenter.services.archive.locks.lock import LockKind
from services.archive_support import STUDY
from services.web.rest.asking import ask
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


async def test_locks_are_shown_and_released_with_a_reason(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    assert "Nobody changes a study" in await text_of(site, cookie, "/locks")
    async with site.parts.archive.locks.exclusive(STUDY, "<b>alice", "deletion"):
        page = await text_of(site, cookie, "/locks")
        assert STUDY in page
        assert "&lt;b&gt;alice (deletion)" in page
        answer = await post(site, cookie, "/locks/release", study=STUDY, reason=" ")
        assert answer.status_code == 400
        assert "say why" in answer.text
        answer = await post(site, cookie, "/locks/release", study=STUDY, reason="it hangs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/locks")
        answer = await post(site, cookie, "/locks/release", study=STUDY, reason="it hangs")
        assert answer.status_code == 404


async def test_what_has_become_of_locks_is_shown(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    book = site.parts.stores.locks
    await book.note_refused(LockKind.EXCLUSIVE)
    page = await text_of(site, cookie, "/locks")
    assert "So far" in page
    kinds = (await ask(site, "GET", "/locks/statistics")).json()["kinds"]
    assert [(one["kind"], one["refused"]) for one in kinds] == [("exclusive", 1), ("migration", 0)]
