"""Spans of a real association and its operations; nothing of it without being asked for."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydicom import dcmread

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.uid import VERIFICATION
from isocenter.services.archive.archive import Archive
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES, STUDY_ROOT_FIND, STUDY_ROOT_GET
from isocenter.services.errors import StorageError
from isocenter.services.monitoring.tracing import Tracing, tracing_of
from isocenter.services.notices import AssociationEnded, Notice, Notices
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.timed import Timer
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import join_stores
from support.outcomes import outcome
from support.processes import ENVIRONMENT
from support.raw import raw_peer
from support.serving import port_of, serving
from support.studies import CT_IMAGE_STORAGE, write_studies


async def test_an_association_is_a_span_and_its_operations_lie_within() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    ended = 0

    def count(notice: Notice) -> None:
        nonlocal ended
        ended += isinstance(notice, AssociationEnded)

    async with serving(notices=Notices(tracing.on_notice, count)) as server:
        peer = Peer("US", "127.0.0.1", port_of(server))
        async with open_association(
            peer, [(VERIFICATION, BASIC_SYNTAXES)], calling_ae_title="MODALITY"
        ) as association:
            await association.echo()
            await association.echo()
        async with raw_peer(port_of(server)) as raw:
            await raw.associate(VERIFICATION)
        server.stop()
        await server.stopped.wait()
    assert ended == 2
    tracing.close()
    spans = exporter.get_finished_spans()
    echoes = [span for span in spans if span.name == "C-ECHO"]
    released, lost = (span for span in spans if span.name == "DICOM association")
    assert len(echoes) == 2
    for echo in echoes:
        assert echo.parent is not None
        assert echo.parent.span_id == released.context.span_id
        assert echo.attributes is not None
        assert echo.attributes["dicom.status"] == 0
        assert released.start_time <= echo.start_time <= echo.end_time <= released.end_time
    assert released.attributes is not None
    assert released.attributes["dicom.calling_ae_title"] == "MODALITY"
    assert released.status.status_code is StatusCode.UNSET
    assert lost.status.status_code is StatusCode.ERROR


async def test_what_an_operation_waits_for_lies_within_its_association() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    async with open_sqlite_database(":memory:") as database:
        stores = join_stores(database)
        stores.timer.listen(tracing.on_transaction)
        find = FindScp(stores.index, ae_title="US")
        async with serving(find, notices=Notices(tracing.on_notice)) as server:
            peer = Peer("US", "127.0.0.1", port_of(server))
            context = (STUDY_ROOT_FIND, BASIC_SYNTAXES)
            async with open_association(peer, [context]) as association:
                keys = build_identifier([("PatientID", "P1")], "STUDY", BASIC_SYNTAXES[0])
                assert [one async for one in association.find(keys)] == []
    tracing.on_round(5, 0.25)
    tracing.close()
    spans = exporter.get_finished_spans()
    (whole,) = [span for span in spans if span.name == "DICOM association"]
    asked = [span for span in spans if span.name == "database" and span.parent is not None]
    assert asked
    for span in asked:
        assert span.parent is not None
        assert span.parent.span_id == whole.context.span_id
        assert "P1" not in str(span.attributes)
    (commit,) = [span for span in spans if span.name == "storage commit"]
    assert commit.attributes is not None
    assert commit.attributes["dicom.objects"] == 5
    assert commit.end_time - commit.start_time == 250_000_000


async def test_what_is_read_to_be_sent_lies_within_its_association(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    paths = write_studies(tmp_path, studies=1, series=1, instances=3)
    image = dcmread(paths[0])
    store, get = (CT_IMAGE_STORAGE, BASIC_SYNTAXES), (STUDY_ROOT_GET, BASIC_SYNTAXES)
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        archive.on_read = tracing.on_read
        services = (StorageScp(archive), GetScp(archive))
        async with serving(*services, notices=Notices(tracing.on_notice)) as server:
            peer = Peer("US", "127.0.0.1", port_of(server))
            async with open_association(peer, [store]) as association:
                for path in paths:
                    await outcome(association.store(await DicomObject.from_file(path)))
            async with open_association(
                peer, [get, store], scp_roles=[CT_IMAGE_STORAGE]
            ) as association:
                keys = [("StudyInstanceUID", str(image.StudyInstanceUID))]
                wanted = build_identifier(keys, "STUDY", BASIC_SYNTAXES[0])

                async def take(operation: Operation, request: CStoreRequest) -> int:
                    async for _ in operation.fragments():
                        pass
                    return 0

                result = await association.get(wanted, take)
    assert result.completed == 3
    tracing.close()
    spans = exporter.get_finished_spans()
    reads = [span for span in spans if span.name == "storage read"]
    assert len(reads) == 3
    (get_span,) = [span for span in spans if span.name == "C-GET"]
    assert get_span.parent is not None
    uids = {str(dcmread(path).SOPInstanceUID) for path in paths}
    for span in reads:
        assert span.parent is not None
        assert span.parent.span_id == get_span.parent.span_id
        assert span.attributes is not None
        assert span.attributes["dicom.sop_instance_uid"] in uids
        assert int(str(span.attributes["dicom.bytes"])) > 500
        assert set(span.attributes) == {
            "dicom.sop_instance_uid", "dicom.bytes", "dicom.association",
        }  # fmt: skip


def test_spans_go_where_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        """A collector."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            came.append((self.path, body, self.headers.get("x-secret")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    came: list[tuple[str, bytes, str | None]] = []
    # Other variables hold beside the settings; the collector that one names does not.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-secret=7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), Handler) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            place = f"http://127.0.0.1:{collector.server_port}"
            for environ, endpoint, path, name in (
                ({}, place, "/v1/traces", b"of-the-settings"),
                ({}, f"{place}/", "/v1/traces", b"of-the-settings"),
                ({"OTEL_SERVICE_NAME": "of-the-variable"}, f"{place}/in", "/in",
                 b"of-the-variable"),
            ):  # fmt: skip
                tracing = tracing_of(
                    environ, endpoint=endpoint, service_name="of-the-settings",
                    interval_seconds=300.0,
                )  # fmt: skip
                assert tracing is not None
                tracing.on_round(5, 0.25)
                tracing.close()  # what waits is sent
                where, body, secret = came.pop()
                assert (where, secret) == (path, "7")
                assert b"storage commit" in body
                assert name in body
        finally:
            collector.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("", True),
        ("http://127.0.0.1:4318", True),
        ("https://collector.example/v1/traces", True),
        ("http://[::1]:4318/", True),
        ("collector.example:4318", False),
        ("grpc://collector.example", False),
        ("http://", False),
        ("http://user:secret@collector.example", False),
        ("http://collector.example/?key=secret", False),
        ("http://collector.example:99999", False),
    ],
)
def test_what_can_be_a_collector(text: str, is_good: bool) -> None:
    overrides = {"monitoring.tracing_endpoint": text, "storage.data_dir": ":memory:"}
    if is_good:
        settings = load_settings(environ={}, overrides=overrides)
        assert settings.monitoring.tracing_endpoint == text
    else:
        with pytest.raises(SettingsError, match="tracing_endpoint") as raised:
            load_settings(environ={}, overrides=overrides)
        assert "http:// or https:// URL" in str(raised.value)


def test_a_transaction_that_failed_is_an_error() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    timer = Timer()
    timer.listen(Tracing(provider).on_transaction)
    with pytest.raises(StorageError), timer.timing("_add_some"):
        raise StorageError("the disk is full")
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"db.operation.name": "add_some"}
    assert span.status.status_code is StatusCode.ERROR


def test_nobody_asks_for_it() -> None:
    assert tracing_of({}) is None
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys; from isocenter.services.monitoring.tracing import tracing_of; "
                "assert tracing_of({}) is None; assert 'opentelemetry' not in sys.modules"
            ),
        ],
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0


def test_who_asks_gets_it() -> None:
    tracing = tracing_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert tracing is not None
    tracing.close()
