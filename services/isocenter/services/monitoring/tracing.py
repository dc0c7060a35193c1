"""Spans of associations and operations for OpenTelemetry, made from notices.

Needs the extra ``tracing``; switched on by OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin).  Nothing of it is imported otherwise.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    AssociationOutcome,
    Notice,
    OperationEnded,
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

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def tracing_of(
    environ: Mapping[str, str] = os.environ, *, service_name: str = "isocenter"
) -> Tracing | None:
    """Tracing as the environment asks for it; None: it does not, or the extra is missing."""
    if not any(environ.get(variable) for variable in _VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning(
            "%s is set, and OpenTelemetry is not installed: pip install 'isocenter[tracing]'",
            " or ".join(_VARIABLES),
        )
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
