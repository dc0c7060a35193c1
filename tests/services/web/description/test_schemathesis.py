"""The OpenAPI document against a served archive: requests made of it, and what answers them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pydicom
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from schemathesis import checks as known_checks
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks as openapi_checks

from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from services.web.asking import web_side
from support.threads import in_thread

FILE = str(get_testdata_file("CT_small.dcm"))
OBJECT = Path(FILE).read_bytes()
HEADER = pydicom.dcmread(FILE, stop_before_pixels=True)
#: What is there, by the name of its place in a path.
THERE = {
    "study": HEADER.StudyInstanceUID,
    "series": HEADER.SeriesInstanceUID,
    "instance": HEADER.SOPInstanceUID,
    "frames": "1",
    "path": "7FE00010",
}
CHECKS: list[CheckFunction] = [
    known_checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.unsupported_method,
    openapi_checks.allow_header_conformance,
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

multipart = st.binary(max_size=200).map(
    lambda data: b"--b\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--b--"
)
schemathesis.openapi.media_type("multipart/related", multipart)
schemathesis.openapi.media_type("application/dicom", st.binary(max_size=200))
schemathesis.openapi.media_type(
    "application/dicom+xml", st.sampled_from([b"<NativeDicomModel/>", b"<x", b""])
)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The address of an archive with one object in it."""
    bind = ListenAddress(host="127.0.0.1", port=0)
    (listener,) = open_listener(bind)
    async with web_side(listens=True) as ask, trio.open_nursery() as nursery:
        answer = await ask("POST", "/dicomweb/studies", OBJECT, content_type="application/dicom")
        assert answer.status == 200
        nursery.start_soon(HttpServer(ask.application).run, [(listener, bind)])
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The same, in a thread."""
    with in_thread(serving) as address:
        yield address


@pytest.mark.slow
def test_answers_are_those_that_are_described(served: str) -> None:
    schema = schemathesis.openapi.from_url(f"{served}/api/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30

    def ask(case: schemathesis.Case) -> None:
        for name in case.path_parameters:
            # Every other request is of what is there.
            if name in THERE and len(repr(case.query)) % 2:
                case.path_parameters[name] = THERE[name]
        case.call_and_validate(checks=CHECKS, timeout=60)

    for operation in operations:
        ASKING(given(operation.as_strategy())(ask))()
