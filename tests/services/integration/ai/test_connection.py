"""The connection to an AI service: verified, and to nobody else."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from isocenter.services.integration.ai.requests import RequestState
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.workflow.jobs.job import JobState
from services.integration.ai.ai_world import STUDY, threshold_serving, world
from support.web_archive import Asked, Scripted, http_serving


def context_of(ca: CertificateAuthority, name: str, host: str) -> ssl.SSLContext:
    """A server's context, with a certificate for *host*."""
    folder = ca.directory.parent
    ca.issue(name, hosts=(host,), folder=folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ai") / "certs")


async def test_a_certificate_of_the_named_authority_for_that_host_is_believed(
    ca: CertificateAuthority,
) -> None:
    with threshold_serving(tls=context_of(ca, "good", "127.0.0.1")) as service:
        url = service.url.replace("http:", "https:")
        async with world(url, service={"ca": str(ca.certificate_path)}) as here:
            await here.keep_series()
            job, _, results = await here.analysed()
            assert (job.state, len(results)) == (JobState.COMPLETED, 2)


@pytest.mark.parametrize(("host", "is_named"), [("ai.example", True), ("127.0.0.1", False)])
async def test_no_object_goes_to_whoever_has_another_certificate(
    ca: CertificateAuthority, host: str, is_named: bool
) -> None:
    tls = context_of(ca, f"bad-{host.replace('.', '-')}", host)
    with threshold_serving(tls=tls) as service:
        url = service.url.replace("http:", "https:")
        named = {"ca": str(ca.certificate_path)} if is_named else {}
        async with world(url, service=named, jobs__give_up_after=0.5) as here:
            await here.keep_series()
            job, request, _ = await here.analysed()
            assert job.state is JobState.FAILED
            assert "certificate" in job.last_fault
            assert request.state is RequestState.SENDING
            assert not service.service._series


async def test_a_redirect_is_not_followed() -> None:
    asked_elsewhere: list[Asked] = []

    async def elsewhere(asked: Asked) -> tuple[int, list[tuple[str, str]], list[bytes | None]]:
        asked_elsewhere.append(asked)
        return 200, [], [b"{}"]

    async with http_serving(Scripted(elsewhere)) as other:

        async def redirect(asked: Asked) -> tuple[int, list[tuple[str, str]], list[bytes | None]]:
            return 307, [("location", other + asked.target)], [b""]

        async with http_serving(Scripted(redirect)) as url, world(url) as here:
            await here.keep_series()
            job, _, _ = await here.analysed()
            assert job.state is JobState.FAILED
            assert asked_elsewhere == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"no JSON", "the service answers with something that is no JSON"),
        (b"[]", "the service answers with no object in JSON"),
        (b"{}", "the service took the request and names no job_id that can be asked"),
        (
            b'{"job_id": "../../studies/1.2.3"}',
            "the service took the request and names no job_id that can be asked",
        ),
        (b'{"job_id": "a"}', "the service does not say how far the request is (status)"),
        (b" " * (2 << 20), "the answer is longer than 1 MiB"),
    ],
)
async def test_answers_that_say_nothing_end_the_request(answer: bytes, fault: str) -> None:
    async def say(asked: Asked) -> tuple[int, list[tuple[str, str]], list[bytes | None]]:
        kind = "application/dicom+json" if asked.target == "/studies" else "application/json"
        body = b"[]" if asked.target == "/studies" else answer
        return 200, [("content-type", kind)], [body]

    async with http_serving(Scripted(say)) as url, world(url) as here:
        await here.keep_series(slices=1)
        job, _, _ = await here.analysed()
        assert (job.state, job.last_fault) == (JobState.FAILED, fault)


async def test_what_a_service_says_of_an_error_is_told_to_nobody(tmp_path: Path) -> None:
    async def say(asked: Asked) -> tuple[int, list[tuple[str, str]], list[bytes | None]]:
        body = '{"message": "Bäcker^Anna is not welcome"}'.encode()
        return 422, [("content-type", "application/json")], [body]

    async with http_serving(Scripted(say)) as url, world(url) as here:
        await here.keep_series(slices=1)
        job, request, _ = await here.analysed()
        items = await here.desk.failures(job, 9)
        shown = f"{job.last_fault} {request.fault} {[one.fault for one in items]}"
        assert "Bäcker" not in shown
        assert "the service did not take all objects" in shown
        assert request.study_instance_uid == STUDY
