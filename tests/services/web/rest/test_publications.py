"""Publications in the API."""

from __future__ import annotations

from isocenter.services.notices import FunctionUsed
from isocenter.services.workflow.jobs.job import JobKind
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

PATH = f"/studies/{STUDY}/publications"


async def test_a_study_is_published_and_withdrawn_by_the_api(site: Site) -> None:
    await store(site.parts.archive, 1)
    (before,) = (await ask(site, "GET", PATH)).json()["publications"]
    assert (before["repository"], before["state"]) == ("regional", "not published")
    answer = await ask(site, "POST", PATH, {"repository": "regional"})
    assert answer.status_code == 202
    job = await site.parts.stores.jobs.get(answer.json()["job_id"])
    assert job is not None
    assert (job.request.kind, job.request.node) == (JobKind.PUBLISH, "repository:regional")
    assert job.request.keys == (("StudyInstanceUID", STUDY),)
    (now,) = (await ask(site, "GET", PATH)).json()["publications"]
    assert (now["state"], now["is_wanted"]) == ("waiting", True)
    again = await ask(site, "POST", PATH, {"repository": "regional", "withdraw": True})
    assert again.json() == {"job_id": answer.json()["job_id"], "is_new": False}
    (now,) = (await ask(site, "GET", PATH)).json()["publications"]
    assert now["is_wanted"] is False
    told = [one.what for one in site.told if isinstance(one, FunctionUsed)]
    assert told == [
        f"study {STUDY} published to repository regional",
        f"study {STUDY} withdrawn from repository regional",
    ]


async def test_what_is_not_there_is_not_published(site: Site) -> None:
    assert await refused(site, "POST", PATH, {"repository": "x"}) == (404, "NOT_FOUND")
    wanted = {"repository": "regional"}
    assert await refused(site, "POST", "/studies/9.9/publications", wanted) == (
        409, "NOT_PUBLISHED",
    )  # fmt: skip
    assert (await refused(site, "POST", PATH, {}))[0] == 400


async def test_what_is_not_as_it_ought_to_be_is_listed(site: Site) -> None:
    await store(site.parts.archive, 1)
    empty = (await ask(site, "GET", "/publications")).json()
    assert empty == {"repositories": [{"name": "regional", "documents": 0}], "publications": []}
    await ask(site, "POST", PATH, {"repository": "regional"})
    await site.parts.stores.publications.tried(
        "regional", STUDY, "it answered 503", at=1_000_001.0, next_attempt_at=1_000_301.0
    )
    (behind,) = (await ask(site, "GET", "/publications")).json()["publications"]
    assert (behind["study_instance_uid"], behind["fault"]) == (STUDY, "it answered 503")
    assert behind["behind_since"] < behind["next_attempt_at"]
    (of_study,) = (await ask(site, "GET", PATH)).json()["publications"]
    assert of_study == behind
