"""Spans of associations, operations, transactions, reads and commits for OpenTelemetry.

Needs the extra ``tracing``; switched on by the settings, or by OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin).  Nothing of it is imported otherwise.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    AssociationOutcome,
    Notice,
    OperationEnded,
    association_name,
)

log = logging.getLogger("isocenter.server")

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NANOSECONDS: Final = 1_000_000_000


class Tracing:
    """A listener that makes spans.

    Args:
        provider: an ``opentelemetry.sdk.trace.TracerProvider``.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("isocenter")
        self._associations: dict[str, Any] = {}

    def on_notice(self, notice: Notice) -> None:
        """A listener for `Notices`."""
        match notice:
            case AssociationEstablished(caller=caller):
                self._associations[caller.association] = self._tracer.start_span(
                    "DICOM association",
                    kind=self._trace.SpanKind.SERVER,
                    attributes={
                        "dicom.association": caller.association,
                        "dicom.calling_ae_title": caller.calling_ae_title,
                        "dicom.called_ae_title": caller.called_ae_title,
                        "network.peer.address": caller.address,
                        "tls": caller.is_tls,
                    },
                )
            case OperationEnded():
                self._operation(notice)
            case AssociationEnded():
                span = self._associations.pop(notice.caller.association, None)
                if span is not None:
                    span.set_attribute("dicom.ending", notice.ending.value)
                    if notice.ending is not AssociationOutcome.RELEASED:
                        span.set_status(self._trace.StatusCode.ERROR, notice.ending.value)
                    span.end()
            case _:
                pass  # no span of its own

    def _operation(self, notice: OperationEnded) -> None:
        parent = self._associations.get(notice.caller.association)
        ended = time.time_ns()
        span = self._tracer.start_span(
            notice.command,
            context=None if parent is None else self._trace.set_span_in_context(parent),
            kind=self._trace.SpanKind.SERVER if notice.as_scp else self._trace.SpanKind.CLIENT,
            attributes={
                "dicom.sop_class_uid": notice.sop_class_uid,
                "dicom.status": -1 if notice.status is None else notice.status,
            },
            start_time=ended - int(notice.seconds * _NANOSECONDS),
        )
        span.end(end_time=ended)

    def on_transaction(self, what: str, seconds: float, has_failed: bool) -> None:
        """A listener of `QueryTimer`: a transaction of the database is over."""
        self._timed("database", seconds, {"db.operation.name": what}, has_failed=has_failed)

    def on_round(self, objects: int, seconds: float) -> None:
        """A round of the committer is over (`Committer`, *on_round*): objects are durable."""
        self._timed("storage commit", seconds, {"dicom.objects": objects})

    def on_read(self, stored: StoredInstance, seconds: float, has_failed: bool) -> None:
        """An object was read (`Archive.on_read`), from the wish for it until it was let go."""
        attributes = {"dicom.sop_instance_uid": stored.sop_instance_uid, "dicom.bytes": stored.size}
        self._timed("storage read", seconds, attributes, has_failed=has_failed)

    def _timed(
        self, name: str, seconds: float, attributes: dict[str, Any], *, has_failed: bool = False
    ) -> None:
        """A span that ends now, within that of the association whose task this is."""
        association = association_name.get()
        parent = self._associations.get(association)
        if association:
            attributes["dicom.association"] = association
        ended = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=None if parent is None else self._trace.set_span_in_context(parent),
            kind=self._trace.SpanKind.INTERNAL,
            attributes=attributes,
            start_time=ended - int(seconds * _NANOSECONDS),
        )
        if has_failed:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def tracing_of(
    environ: Mapping[str, str] = os.environ,
    *,
    endpoint: str = "",
    service_name: str = "isocenter",
    interval_seconds: float = 5.0,
) -> Tracing | None:
    """Tracing as the settings or the environment ask for it; None: they do not, or the extra is
    missing.

    Args:
        endpoint: of a collector that takes OTLP over HTTP; without a path, ``/v1/traces``.  Empty:
            as the variables say.
        service_name: unless ``OTEL_SERVICE_NAME`` says another.
        interval_seconds: how long spans wait for others before they are sent.
    """
    if not endpoint and not any(environ.get(variable) for variable in _VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            "%s is set, and OpenTelemetry is not installed: pip install 'isocenter[tracing]'",
            "monitoring.tracing_endpoint" if endpoint else " or ".join(_VARIABLES),
        )
        return None
    name = environ.get("OTEL_SERVICE_NAME") or service_name
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    # Other variables of the exporter (headers, certificates, its timeout) hold in either case.
    exporter = OTLPSpanExporter(endpoint=_address_of(endpoint) if endpoint else None)
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=interval_seconds * 1_000)
    provider.add_span_processor(processor)
    return Tracing(provider)


def _address_of(endpoint: str) -> str:
    """Where spans go: OTLP's own path, unless there is one (OTLP specification, OTLP/HTTP)."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + "/v1/traces"
