"""What audit trail, metrics and log get to know of web requests."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.notices import HttpLimitReached, RequestAnswered
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import InstancesRead, Notice, Notices, QueryAnswered
from isocenter.services.security.access.failed_sign_ins import SignInFailed
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.service_classes.ups.workitem import UPS_QUERY
from isocenter.services.web.principal import Principal, caller_key, caller_of
from isocenter.services.web.records import RequestRecords
from services.archive_support import SERIES, STUDY, store, uid
from services.service_classes.ups.samples import UID as UPS
from services.service_classes.ups.samples import scheduled
from services.web.asking import WebSide, web_side

INSTANCE = f"/dicomweb/studies/{STUDY}/series/{SERIES}/instances/{uid(1)}"


async def as_carol(request: Request, route: Route[Handler]) -> None:
    request.caller = Principal(permissions=ALL_PERMISSIONS, user="carol")


@asynccontextmanager
async def recorded() -> AsyncIterator[tuple[WebSide, list[Notice]]]:
    """An archive with two instances, and what is told of requests."""
    told: list[Notice] = []
    records = RequestRecords(Notices(told.append))
    async with web_side(authorize=as_carol, on_answered=records) as side:
        for number in (1, 2):
            await store(side.parts.archive, number)
        told.clear()
        yield side, told


async def test_a_search_is_told_as_a_query() -> None:
    async with recorded() as (side, told):
        answer = await side("GET", "/dicomweb/studies?PatientName=B*%5EAnna&limit=5")
        assert answer.status == 200
        answered, query = told
    assert isinstance(answered, RequestAnswered)
    assert (answered.method, answered.route, answered.status) == ("GET", "/dicomweb/studies", 200)
    assert isinstance(query, QueryAnswered)
    assert query.identifier == b"/dicomweb/studies?PatientName=B*%5EAnna&limit=5"
    assert (query.matches, query.status, query.caller.user) == (1, 0, "carol")
    assert (query.level, query.seconds) == ("STUDY", answered.seconds)
    assert "Anna" not in repr(query)


@pytest.mark.parametrize(
    ("query", "status", "as_dimse"),
    [("limit=x", 400, 0xA900), ("limit=-1", 400, 0xA900)],
)
async def test_a_search_that_fails_is_told_with_its_failure(
    query: str, status: int, as_dimse: int
) -> None:
    async with recorded() as (side, told):
        assert (await side("GET", f"/dicomweb/studies?{query}")).status == status
        (found,) = [one for one in told if isinstance(one, QueryAnswered)]
        assert found.status == as_dimse


@pytest.mark.parametrize(
    ("path", "instances"),
    [
        (f"/dicomweb/studies/{STUDY}", {uid(1), uid(2)}),
        (f"/dicomweb/studies/{STUDY}/metadata", {uid(1), uid(2)}),
        (INSTANCE, {uid(1)}),
        (f"{INSTANCE}/metadata", {uid(1)}),
    ],
)
async def test_what_is_read_is_told(path: str, instances: set[str]) -> None:
    async with recorded() as (side, told):
        assert (await side("GET", path)).status == 200
        (read,) = [one for one in told if isinstance(one, InstancesRead)]
        assert (read.study_instance_uid, read.is_whole) == (STUDY, True)
        is_known = bool(read.sop_instance_uids) or "metadata" not in path
        assert read.sop_instance_uids == (instances if is_known else set())
        assert sum(read.sop_classes.values()) == len(read.sop_instance_uids)
        told.clear()
        # Nothing is sent.
        assert (await side("HEAD", path)).status == 200
        assert (await side("GET", path.replace(STUDY, "1.9.9"))).status == 404
        assert (await side("GET", path, accept="image/x-nothing")).status == 406
        assert {type(one) for one in told} == {RequestAnswered}


async def test_a_workitem_that_is_read_is_told_as_a_query() -> None:
    """It names its patient, and need be of no study."""
    async with recorded() as (side, told):
        created = await side("POST", f"/dicomweb/workitems?{UPS}", scheduled().to_json_dict())
        assert created.status == 201
        for path, matches in (UPS, 1), ("1.9.9", 0):
            told.clear()
            await side("GET", f"/dicomweb/workitems/{path}")
            (query,) = [one for one in told if isinstance(one, QueryAnswered)]
            assert (query.sop_class_uid, query.matches) == (UPS_QUERY, matches)
            assert query.identifier.endswith(path.encode())
            assert query.caller.user == "carol"


async def test_nobody_who_is_not_known_is_told_of() -> None:
    told: list[Notice] = []
    async with web_side(on_answered=RequestRecords(Notices(told.append))) as side:
        await side("GET", "/dicomweb/studies")
        await side("FLY", "/nowhere")
    assert [type(one) for one in told] == [RequestAnswered] * 2
    last = told[1]
    assert isinstance(last, RequestAnswered)
    assert (last.method, last.route, last.status) == ("other", "", 404)


async def test_the_log_has_no_values(caplog: pytest.LogCaptureFixture) -> None:
    async with recorded() as (side, _):
        with caplog.at_level(logging.DEBUG, "isocenter"):
            await side("GET", "/dicomweb/studies?PatientID=SECRET-7&PatientName=SECRET-8")
            await side("GET", "/dicomweb/studies?StudyDate=SECRET-9")
            await side("GET", "/dicomweb/SECRET-10")
            await side("GET", INSTANCE)
    lines = [line.getMessage() for line in caplog.records if line.name.startswith("isocenter")]
    assert any("GET /dicomweb/studies 200" in line for line in lines)
    assert not any("SECRET" in line for line in lines)


def test_they_are_counted() -> None:
    metrics = Metrics(version="1")
    for notice in (
        RequestAnswered(method="GET", route="/a", status=200, size=7, seconds=0.5),
        RequestAnswered(method="GET", route="", status=404, size=3, seconds=0.5),
        HttpLimitReached("connections"),
        SignInFailed(caller=caller_of(_request()), kind="jwt", why=""),
    ):
        metrics.on_notice(notice)
    page = metrics.page().decode()
    for line in (
        'isocenter_http_requests_total{method="GET",route="/a",status="200"} 1.0',
        'isocenter_http_requests_total{method="GET",route="none",status="404"} 1.0',
        'isocenter_http_sent_bytes_total{route="/a"} 7.0',
        'isocenter_http_request_duration_seconds_count{route="/a"} 1.0',
        'isocenter_http_limits_reached_total{limit="connections"} 1.0',
        'isocenter_sign_ins_failed_total{kind="jwt"} 1.0',
    ):
        assert line in page


def _request() -> Request:
    async def receive() -> dict[str, object]:
        raise AssertionError

    scope = {"method": "GET", "raw_path": b"/", "client": ("10.0.0.7", 1), "headers": []}
    return Request(scope | {"scheme": "http"}, receive)


def test_a_caller_is_known_by_its_name_or_else_by_where_it_is() -> None:
    request = _request()
    assert caller_key(request) == "10.0.0.7"
    keys = set()
    for principal in (
        Principal(permissions=ALL_PERMISSIONS),
        Principal(permissions=ALL_PERMISSIONS, user="carol"),
        Principal(permissions=ALL_PERMISSIONS, certificate="carol"),
        Principal(permissions=ALL_PERMISSIONS, user="carol", token_id="00"),
    ):
        request.caller = principal
        keys.add(caller_key(request))
    assert len(keys) == 4
