"""Page of the application entities: who may call, who was turned away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.ae import is_ae_title
from isocenter.services.net.addresses import is_network
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.notices import Caller
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import DEFAULT_ROLE
from isocenter.services.security.access.policy import ApplicationEntity
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.web.forms import read_fields
from isocenter.services.web.ui.layout import Layout

_MOST_DESCRIPTION: Final = 200


class DevicePages:
    """Answers with application entities, and admits them or turns them away."""

    def __init__(
        self,
        changes: PolicyChanges,
        rejected: RejectedFile,
        layout: Layout,
        *,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._changes = changes
        self._rejected = rejected
        self._layout = layout
        self._caller_of = caller_of

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._page(request, {}, "")

    async def admit(self, request: Request) -> Response:
        """The handler of the form that admits one."""
        fields = {name: text.strip() for name, text in (await read_fields(request)).items()}
        try:
            await self._changes.admit(_entity(fields), self._caller_of(request))
        except PolicyError as error:
            return await self._page(request, fields, str(error))
        return Response(status=303, headers=[("location", "/devices")])

    async def turn_away(self, request: Request) -> Response:
        """The handler of the button that turns one away."""
        ae_title = (await read_fields(request)).get("ae_title", "")
        try:
            await self._changes.turn_away(ae_title, self._caller_of(request))
        except PolicyError as error:
            return await self._page(request, {}, str(error))
        return Response(status=303, headers=[("location", "/devices")])

    async def _page(self, request: Request, fields: dict[str, str], fault: str) -> Response:
        try:
            policy = await self._changes.policy()
            rejected = await trio.to_thread.run_sync(self._rejected.read)
        except PolicyError as error:
            raise HttpError(503, "UNAVAILABLE", "the policy cannot be read; see the log") from error
        return self._layout.page(
            request,
            "devices.html",
            status=400 if fault else 200,
            section="devices",
            entities=policy.entities,
            admitted={one.ae_title for one in policy.entities if policy.is_admitted(one)},
            roles=sorted(policy.all_roles),
            default_role=DEFAULT_ROLE,
            rejected=[one for one in rejected if one.calling_ae_title],
            strangers=[one for one in rejected if not one.calling_ae_title],
            known={one.ae_title for one in policy.entities if one.active},
            fields=fields,
            fault=fault,
        )


def _entity(fields: dict[str, str]) -> ApplicationEntity:
    """What the form says.

    Raises:
        PolicyError: it says what cannot be; in words.
    """
    ae_title, address = fields.get("ae_title", ""), fields.get("address", "")
    if not is_ae_title(ae_title):
        raise PolicyError("an AE title has 1 to 16 characters, and no backslash")
    if address and not is_network(address):
        raise PolicyError("an address is one as 10.1.0.7, or a network as 10.1.0.0/16")
    description = fields.get("description", "")[:_MOST_DESCRIPTION]
    if description and not description.isprintable():
        raise PolicyError("the description is one line of text")
    return ApplicationEntity(
        ae_title=ae_title,
        addresses=(address,) if address else (),
        tls="tls" in fields,
        roles=(fields.get("role") or DEFAULT_ROLE,),
        description=description,
    )
