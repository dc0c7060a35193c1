"""Page and API of conflicts with remote nodes."""

from __future__ import annotations

from isocenter.services.workflow.synchronization.comparison import ConflictKind
from isocenter.services.workflow.synchronization.ports import Conflict
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


def conflict(study: str, kind: ConflictKind = ConflictKind.MODIFIED) -> Conflict:
    return Conflict(
        number=0, task="t", node="<b>far", study_instance_uid=study, kind=kind, here=1, there=1,
        found_at=1_000.0,
    )  # fmt: skip


async def test_conflicts_are_shown_and_resolved(site: Site) -> None:
    cookie = await site.cookie("a-system")
    assert "There is none" in await text_of(site, cookie, "/conflicts")
    book = site.parts.stores.sync
    await book.report(conflict("1.2.77"))
    await book.report(conflict(STUDY, ConflictKind.DELETED_THERE))
    page = await text_of(site, cookie, "/conflicts")
    assert "1.2.77" in page
    assert "&lt;b&gt;far" in page
    (deleted, modified) = (await ask(site, "GET", "/sync/conflicts")).json()["conflicts"]
    assert (deleted["kind"], modified["kind"]) == ("deleted there", "modified")
    fields = {"conflict": str(modified["number"]), "prefer": "remote"}
    assert (await post(site, cookie, "/conflicts/resolve", **fields)).status_code == 303
    assert (await post(site, cookie, "/conflicts/resolve", **fields)).status_code == 409
    wrong = await post(site, cookie, "/conflicts/resolve", conflict="9", prefer="x")
    assert wrong.status_code == 404
    (job,) = await site.parts.stores.jobs.jobs(limit=9)
    assert (job.request.kind.value, job.request.again) == ("retrieve", True)
    path = f"/sync/conflicts/{deleted['number']}/resolve"
    assert (await refused(site, "POST", path, {"prefer": "newest"}))[0] == 400
    assert (await ask(site, "POST", path, {"prefer": "remote"})).status_code == 204
    assert (await site.parts.archive.index.statistics()).instances == 0
    assert await refused(site, "POST", "/sync/conflicts/x/resolve", {"prefer": "leave"}) == (
        404, "NOT_FOUND",
    )  # fmt: skip
    listed = (await ask(site, "GET", "/sync/conflicts?all=yes")).json()["conflicts"]
    assert [one["resolution"] for one in listed] == ["prefer remote", "prefer remote"]


async def test_whoever_resolves_a_conflict_may_do_what_that_does(site: Site) -> None:
    cookie = await site.cookie("a-only-delete")
    told = {**cookie, "origin": site.root}
    book = site.parts.stores.sync
    for number, kind in enumerate(ConflictKind):
        await book.report(conflict(f"1.2.{number + 1}", kind))
    found = await book.conflicts(is_open=True, limit=9)
    may = {
        (ConflictKind.DELETED_HERE, "local"),  # it stays deleted
        (ConflictKind.DELETED_THERE, "remote"),
    }
    for one in found:
        path = f"/sync/conflicts/{one.number}/resolve"
        for prefer in ("local", "remote"):
            if (one.kind, prefer) in may:
                continue
            assert await refused(site, "POST", path, {"prefer": prefer}, **told) == (
                403, "NOT_ALLOWED",
            )  # fmt: skip
            fields = {"conflict": str(one.number), "prefer": prefer}
            assert (await post(site, cookie, "/conflicts/resolve", **fields)).status_code == 403
    assert not await site.parts.stores.jobs.jobs(limit=9)
    for one in found:
        answer = await ask(
            site, "POST", f"/sync/conflicts/{one.number}/resolve", {"prefer": "leave"}, **told
        )
        assert answer.status_code == 204


async def test_digests_of_a_study_are_told(site: Site) -> None:
    stored = (await store(site.parts.archive, 1)).instance
    told = (await ask(site, "GET", f"/studies/{STUDY}/digests")).json()["objects"]
    digests = {one["sop_instance_uid"]: one["digest"] for one in told}
    assert len(digests) == 3
    assert digests[stored.sop_instance_uid] == stored.digest
    assert await refused(site, "GET", "/studies/1.2.99/digests") == (404, "NOT_FOUND")
