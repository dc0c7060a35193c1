"""Spans of a real association and its operations; nothing of it without being asked for."""

from __future__ import annotations

import subprocess
import sys

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from isocenter.engine.uid import VERIFICATION
from isocenter.services.association.peer import Peer
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.monitoring.tracing import Tracing, tracing_of
from isocenter.services.notices import AssociationEnded, Notice, Notices
from isocenter.services.service_classes.client import open_association
from support.processes import ENVIRONMENT
from support.raw import raw_peer
from support.serving import port_of, serving


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
