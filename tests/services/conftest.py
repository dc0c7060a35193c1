"""What every test of services watches: no service answers a status that it has not declared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import COMMON_STATUSES, ServiceRegistry

Answered = dict[str, set[int]]


def service_of(registry: ServiceRegistry, context: Any) -> Any:
    """The one that performs what comes on *context*."""
    offering = (each for each in reversed(registry.services) if each.offer(context.abstract_syntax))
    return next(offering, None)


@pytest.fixture(autouse=True)
def answered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answered]:
    """Statuses that services in this process have answered, by `Service.name`."""
    seen: Answered = defaultdict(set)
    undeclared: list[str] = []
    respond, respond_pending = Operation.respond, Operation.respond_pending
    respond_progress = Operation.respond_progress
    perform, answer = ServiceRegistry.perform, ServiceRegistry.respond_immediately

    def note(service: Any, status: int) -> None:
        declared = getattr(service, "statuses", None)  # those of tests have none
        if declared is None:
            return
        seen[service.name].add(status)
        if status not in declared and status not in COMMON_STATUSES:
            undeclared.append(f"{service.name}: {status:04X}H")

    async def noted_respond(self: Operation, response: Any, data_set: Any = None) -> None:
        note(getattr(self, "_service", None), response.status)
        await respond(self, response, data_set)

    async def noted_pending(self: Operation, response: Any, identifiers: Sequence[Any]) -> None:
        note(getattr(self, "_service", None), response.status)
        await respond_pending(self, response, identifiers)

    async def noted_progress(self: Operation, response: Any) -> None:
        note(getattr(self, "_service", None), response.status)
        await respond_progress(self, response)

    async def noted_perform(self: ServiceRegistry, operation: Operation) -> None:
        operation._service = service_of(self, operation.context)  # type: ignore[attr-defined]
        await perform(self, operation)

    def noted_answer(self: ServiceRegistry, context: Any, request: Any) -> Any:
        response = answer(self, context, request)
        if response is not None:
            note(service_of(self, context), response.status)
        return response

    monkeypatch.setattr(Operation, "respond", noted_respond)
    monkeypatch.setattr(Operation, "respond_pending", noted_pending)
    monkeypatch.setattr(Operation, "respond_progress", noted_progress)
    monkeypatch.setattr(ServiceRegistry, "perform", noted_perform)
    monkeypatch.setattr(ServiceRegistry, "respond_immediately", noted_answer)
    yield seen
    assert not undeclared, "declare it in `statuses` of the service"
