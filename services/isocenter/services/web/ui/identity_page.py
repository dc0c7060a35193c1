"""Page of patients who may be one person."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import read_reasoned, to, unavailable
from isocenter.services.workflow.reconciliation.identities import PatientIdentities
from isocenter.services.workflow.reconciliation.values import (
    Identifier,
    ReconciliationError,
    ReconciliationKind,
)

_PATH: Final = "/patients/conflicts"
_ROWS: Final = 50
#: Values of a place among conflicts, as the address of a page has it.
_PLACE: Final = ("date", "name", "id", "issuer", "other", "other_issuer")


class IdentityPage:
    """Answers with conflicts, and takes what people say of them."""

    def __init__(self, identities: PatientIdentities, layout: Layout) -> None:
        self._identities = identities
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page(_PATH, "correct", self.list, "Patients who may be one person.")
        yield action(
            "/patients/link",
            "correct",
            partial(self._settle, ReconciliationKind.LINK),
            "Link two patients who are one person.",
        )
        yield action(
            "/patients/unlink",
            "correct",
            partial(self._settle, ReconciliationKind.UNLINK),
            "Link two patients no more.",
        )
        yield action(
            "/patients/tell-apart",
            "correct",
            partial(self._settle, ReconciliationKind.TELL_APART),
            "Two patients are two persons.",
        )

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._list(request, "")

    async def _settle(self, kind: ReconciliationKind, request: Request) -> Response:
        fields, reason, fault = await read_reasoned(request)
        if fault:
            return await self._list(request, fault)
        try:
            await self._identities.settle(
                kind,
                Identifier(fields.get("patient", ""), fields.get("issuer", "")),
                Identifier(fields.get("other", ""), fields.get("other_issuer", "")),
                actor=caller_name(caller_of(request)),
                reason=reason,
            )
        except ReconciliationError as error:
            return await self._list(request, str(error))
        except StorageError as error:
            raise unavailable() from error
        return to(_PATH)

    async def _list(self, request: Request, fault: str) -> Response:
        after = [request.parameter(name) or "" for name in _PLACE]
        try:
            rows = await self._identities.conflicts(after=after, limit=_ROWS + 1)
            contradictions = await self._identities.contradictions()
        except StorageError as error:
            raise unavailable() from error
        following = None
        if len(rows) > _ROWS:
            following = list(zip(_PLACE, rows[_ROWS - 1].place, strict=True))
        return self._layout.page(
            request,
            "identities.html",
            status=400 if fault else 200,
            section="reconciliation",
            rows=rows[:_ROWS],
            contradictions=contradictions,
            following=following,
            fault=fault,
        )
