"""Whoever asked for a job is asked again for permission while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.notices import AccessDenied, Notices
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.permissions import Action, Resource
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.workflow.jobs import local_works, runner
from isocenter.services.workflow.jobs.asker import Asker, asker_of_text
from isocenter.services.workflow.jobs.job import Job, JobKind, JobProgress, JobRequest, JobState
from isocenter.services.workflow.jobs.permission import JobPermission
from isocenter.services.workflow.jobs.ports import Wish
from services.archive_support import STUDY, store, uid
from services.workflow.jobs.test_runner import World, world

READER = User(name="smith", roles=("Radiologist",))
POLICY = Policy(
    roles={"Sender": {Resource.STUDY: Action.READ | Action.EXPORT}},
    users=(READER, User(name="jones", roles=("Viewer",))),
    entities=(ApplicationEntity(ae_title="WS1", roles=("Radiologist",)),),
)
SEND = JobRequest(kind=JobKind.SEND, node="OTHER", requested_by="smith")


def token(**values: object) -> ApiToken:
    said = {
        "token_id": "t1", "name": "ci", "secret_digest": "0" * 64, "created_at": 0.0,
        "created_by": "x", "expires_at": None,
    }  # fmt: skip
    return ApiToken(**{**said, **values})  # type: ignore[arg-type]


async def why_not(
    asker: Asker | None,
    *,
    policy: Policy = POLICY,
    tokens: Sequence[ApiToken] = (),
    kind: JobKind = JobKind.SEND,
    enforcement: Enforcement = Enforcement.AUTO,
) -> str:
    async def token_of(token_id: str) -> ApiToken | None:
        return next((one for one in tokens if one.token_id == token_id), None)

    def enforces(judged: Policy) -> bool:
        return enforcement.holds(bool(judged.entities))

    permission = JobPermission(lambda: policy, enforces, token_of, Notices())
    request = replace(SEND, asker=asker, kind=kind)
    return await permission.why_not(_job(request))


def _job(request: JobRequest) -> Job:
    return Job(
        number=1, job_id="ab", request=request, state=JobState.RUNNING, progress=JobProgress(),
        attempts=1, claim=1, created_at=0.0, since=0.0, due_at=0.0, started_at=0.0, ended_at=None,
        last_fault="",
    )  # fmt: skip


async def test_who_may_still_may() -> None:
    assert await why_not(None) == ""
    assert await why_not(Asker(user="smith")) == ""
    assert await why_not(Asker(roles=("Sender",))) == ""
    assert await why_not(Asker(ae_titles=("WS1", "GONE"))) == ""
    assert await why_not(Asker(token_id="t1"), tokens=[token(roles=("Sender",))]) == ""
    assert await why_not(Asker(token_id="t1", user="smith"), tokens=[token(user="smith")]) == ""
    assert asker_of_text(Asker(user="smith").as_text()) == Asker(user="smith")
    assert asker_of_text("") is None


async def test_who_may_not_any_more_is_told_why() -> None:
    gone = "smith asked for it, and is no active user any more"
    assert await why_not(Asker(user="nobody")) == gone
    off = replace(POLICY, users=(replace(READER, active=False),))
    assert await why_not(Asker(user="smith"), policy=off) == gone
    assert "lacks study:export by now" in await why_not(Asker(user="jones"))
    assert "lacks system:write" in await why_not(Asker(user="smith"), kind=JobKind.IMPORT)
    assert "lacks study:read+export" in await why_not(Asker(roles=("Gone",)))
    assert "may not call any more" in await why_not(Asker(ae_titles=("WS2",)))
    behind = replace(POLICY.entities[0], user="smith")
    assert (
        await why_not(Asker(ae_titles=("WS1",)), policy=replace(POLICY, entities=(behind,))) == ""
    )
    assert "may not call any more" in await why_not(
        Asker(ae_titles=("WS1",)), policy=replace(off, entities=(behind,))
    )
    withdrawn = "the API token was withdrawn or has expired"
    assert withdrawn in await why_not(Asker(token_id="t1", user="smith"))
    # A token is good for what its user may, as the policy is now.
    assert "is no active user" in await why_not(
        Asker(token_id="t1", user="smith"), policy=off, tokens=[token(user="smith")]
    )


async def test_where_the_policy_does_not_decide_on_entities_they_may_go_on() -> None:
    gone, nobody = Asker(ae_titles=("WS2",)), replace(POLICY, entities=())
    for enforcement in Enforcement:
        refuses = enforcement is not Enforcement.NEVER
        assert bool(await why_not(gone, enforcement=enforcement)) is refuses
    assert await why_not(gone, policy=nobody) == ""
    assert await why_not(gone, policy=nobody, enforcement=Enforcement.ALWAYS)
    # Users are judged by it all the same: they sign in as what it says of them.
    never = Enforcement.NEVER
    assert "no active user" in await why_not(Asker(user="nobody"), enforcement=never)
    withdrawn = await why_not(Asker(token_id="t1", user="smith"), enforcement=never)
    assert "withdrawn" in withdrawn


async def _asked(here: World, asker: Asker) -> str:
    keys = (("StudyInstanceUID", STUDY),)
    return await here.submit(
        JobRequest(kind=JobKind.VERIFY, node="", keys=keys, requested_by="token ci", asker=asker)
    )


async def test_a_job_ends_between_two_objects_when_the_key_of_its_asker_is_withdrawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_RENEW_SECONDS", 0.02)
    monkeypatch.setattr(local_works, "_AT_ONCE", 1)
    async with world() as here:
        tokens = here.parts.stores.tokens
        for number in (1, 2, 3):
            await store(here.parts.archive, number)
        assert await tokens.add(token(roles=("Administrator",)))
        verified: list[str] = []
        original = local_works.verify_instance

        async def verify(archive: object, stored: StoredInstance) -> str:
            if verified:
                # The first was settled; now nothing goes on by itself.
                await tokens.revoke("t1", 1.0)
                await trio.sleep_forever()
            verified.append(stored.sop_instance_uid)
            return await original(archive, stored)  # type: ignore[arg-type]

        monkeypatch.setattr(local_works, "verify_instance", verify)
        job_id = await _asked(here, Asker(token_id="t1"))
        job = await here.until(job_id, lambda job: job.state.is_final)
        assert job.state is JobState.FAILED
        why = "token ci asked for it, and the API token was withdrawn or has expired"
        assert job.last_fault == why
        assert (job.progress.done, verified) == (1, [uid(1)])
        (told,) = [notice for notice in here.heard if isinstance(notice, AccessDenied)]
        assert (told.caller.user, told.why) == ("token ci", why)
        assert told.command == f"job {job_id} (verify)"
        # Nor does it begin again.
        assert await here.steer(job_id, Wish.RETRY)
        job = await here.until(job_id, lambda job: job.state.is_final and job.attempts == 1)
        assert (job.state, job.last_fault, verified) == (JobState.FAILED, why, [uid(1)])


async def test_where_nobody_knows_who_may_what_a_job_is_cancelled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_RENEW_SECONDS", 0.02)
    begun = trio.Event()

    async def why_not(permission: JobPermission, job: Job) -> str:
        if begun.is_set():
            raise RuntimeError("a fault of ours")
        return ""

    async def verify(archive: object, stored: StoredInstance) -> str:
        begun.set()
        await trio.sleep_forever()
        return ""

    monkeypatch.setattr(JobPermission, "why_not", why_not)
    monkeypatch.setattr(local_works, "verify_instance", verify)
    async with world() as here:
        await store(here.parts.archive, 1)
        job_id = await _asked(here, Asker(user="smith"))
        with trio.fail_after(60):
            await begun.wait()
        assert await here.steer(job_id, Wish.CANCEL)
        job = await here.until(job_id, lambda job: job.state.is_final)
        assert job.state is JobState.CANCELLED
