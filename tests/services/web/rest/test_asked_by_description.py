"""The OpenAPI document of the API against a served archive: requests made of it, and answers."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks as known_checks
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks as openapi_checks

from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.security.certificates.authority import ensure_ca
from services.security.audit.trails import entry as record
from services.security.audit.trails import trail
from services.service_classes.worklist.samples import entry
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.signed_in import opened
from support.threads import in_thread

#: What would be gone for all that come after: the study, the session, the caller's own permission.
NOT_ASKED = frozenset({"DeleteStudy", "SignOut", "MoveStudy", "StreamEvents"})
#: After all others: whoever admits a device has a policy by which callers are known.
LAST = "Devices"
#: What is there, by the name of its place in a path, or of a field of a body.
THERE = {
    "study": STUDY, "series": SERIES, "instance": uid(1), "patient": "P1",
    "user": "alice", "role": "Viewer", "key": "log.level", "entry": "1", "record": "1",
    "ae_title": "CT1",
}  # fmt: skip
FIELDS = {"sop_instance_uid": uid(1), "study_uid": STUDY, "series_uid": SERIES, "user_id": None}
CHECKS: list[CheckFunction] = [
    known_checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.unsupported_method,
]
#: The same requests each time, so that a failure can be shown again.
ASKING = settings(
    max_examples=6,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The address of an archive with a few images in it."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            CodecPool(PoolLimits(workers=1)) as pool,
            opened(Path(folder), pool=pool) as site,
        ):
            await put(site.parts.archive, *(image(number) for number in (1, 2, 3)))
            await site.parts.stores.worklist.put([entry()], source="command")
            trail(site.file.folder / "audit").append([record()])
            ensure_ca(site.file.folder / "certs")
            yield str(site.client.base_url)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The same, in a thread."""
    with in_thread(serving) as address:
        yield address


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_again")
def test_answers_are_those_that_are_described(served: str) -> None:
    headers = {"x-certificate": "program", "accept": "*/*"}
    schema = schemathesis.openapi.from_url(f"{served}/api/v1/openapi.json", headers=headers)
    operations = [
        one
        for one in (found.ok() for found in schema.get_all_operations())
        if one.definition.raw["operationId"] not in NOT_ASKED
    ]
    operations.sort(key=lambda one: LAST in (one.tags or ()))
    assert len(operations) > 90
    statuses: set[int] = set()

    def ask(case: schemathesis.Case) -> None:
        # Most requests are of what is there.
        if len(repr(case.query)) % 3:
            case.path_parameters |= {
                name: THERE[name] for name in case.path_parameters if name in THERE
            }
        if isinstance(case.body, dict):
            case.body |= {
                name: value
                for name, value in FIELDS.items()
                if name in case.body and len(repr(case.body)) % 3
            }
        case.headers = {**(case.headers or {}), **headers}
        answer = case.call_and_validate(checks=CHECKS, timeout=60)
        statuses.add(answer.status_code)

    for operation in operations:
        ASKING(given(operation.as_strategy())(ask))()
    assert {200, 201, 400, 404} <= statuses
