"""Devices in the API: application entities of the policy, and who was turned away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

import trio

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.permissions import DEFAULT_ROLE, permission_texts
from isocenter.services.security.access.policy import ApplicationEntity, CertificateRule, Policy
from isocenter.services.security.access.policy_changes import PolicyChanges
from isocenter.services.security.access.rejected_callers import RejectedCaller, RejectedFile
from isocenter.services.web.cursors import Key
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import (
    changing,
    not_found,
    permissions_in,
    policy_now,
)

_SERVICE: Final = "Devices"
_PATH: Final = "/security/ae-titles"
_ONE: Final = f"{_PATH}/{{ae_title}}"
_REJECTED: Final = "/security/rejected-callers"


class Certificate(Body):
    """A rule for certificates: whatever is given has to fit; `fingerprint` is SHA-256."""

    fingerprint: str = ""
    subject: str = ""
    name: str = ""
    issuer: str = ""


class Device(Body):
    """An application entity: an AE title (`*`, `?` are wild cards), who may use it, and for what.

    `addresses` are networks, none: anywhere; `certificates`: one has to fit, none: what the
    settings say; `sop_classes`: the only ones, none: all; `allowed` and `denied` are beside its
    roles.  An entity that is not `active` is turned away.  `user`: who is at it, unless somebody
    else proves to be there; the roles of that user count, too.
    """

    ae_title: str
    roles: tuple[str, ...] = (DEFAULT_ROLE,)
    addresses: tuple[str, ...] = ()
    tls: bool = False
    certificates: tuple[Certificate, ...] = ()
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    active: bool = True
    description: str = ""
    user: str = ""


class Rejected(Body):
    """A caller that was turned away, how often, why, and the cure."""

    address: str
    calling_ae_title: str
    called_ae_title: str
    certificate: str
    count: int
    first: str
    last: str
    why: str
    cure: str
    is_admitted: bool


class Forgotten(Body):
    """How many were forgotten."""

    count: int


class DeviceApi:
    """Answers with application entities and rejected callers, and changes them."""

    def __init__(self, changes: PolicyChanges, rejected: RejectedFile) -> None:
        self._changes = changes
        self._rejected = rejected

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", _PATH, self.list, "Application entities, in the order of their titles.",
            name="ListDevices", service=_SERVICE, needs="state", gives=Page[Device],
            parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.admit,
            "Admit an application entity; one that is turned away gets back what it had.",
            name="AdmitDevice", service=_SERVICE, needs="configure", takes=Device, gives=Device,
            answers=(
                ok("It is admitted.", status=201, headers=("Location",)),
                Answer(409, "It is admitted already."),
            ),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One application entity.", name="GetDevice",
            service=_SERVICE, needs="state", gives=Device, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.put, "Admit one, or put it in the place of that which is there.",
            name="PutDevice", service=_SERVICE, needs="configure", takes=Device, gives=Device,
            has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Forget an application entity, and what it may do.",
            name="RemoveDevice", service=_SERVICE, needs="configure", has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/turn-away", self.turn_away,
            "Turn one away; what it may do is kept for when it is admitted again.",
            name="TurnDeviceAway", service=_SERVICE, needs="configure", gives=Device,
        )  # fmt: skip
        yield endpoint(
            "GET", _REJECTED, self.list_rejected, "Who was turned away, the last one first.",
            name="ListRejectedCallers", service=_SERVICE, needs="state", gives=Page[Rejected],
            parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _REJECTED, self.forget_rejected, "Forget who was turned away.",
            name="ForgetRejectedCallers", service=_SERVICE, needs="configure", gives=Forgotten,
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        policy = await policy_now(self._changes.policy)
        devices = [_device(one) for one in policy.entities]
        page = page_of(devices, page_request(request), lambda one: (one.ae_title,))
        return answer(page, headers=link_headers(request, page))

    async def show(self, request: Request) -> Response:
        """The handler."""
        policy = await policy_now(self._changes.policy)
        return tagged(request, _device(_named(policy, request.arguments["ae_title"])))

    async def admit(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, Device)
        policy = await policy_now(self._changes.policy)
        if any(one.ae_title == body.ae_title and one.active for one in policy.entities):
            raise HttpError(409, "CONFLICT", "it is admitted already; change it by PUT")
        async with changing():
            await self._changes.admit(_entity(body), caller_of(request))
        policy = await policy_now(self._changes.policy)
        place = f"{request.raw_path.decode('ascii', 'replace')}/{quote(body.ae_title, safe='')}"
        return answer(_device(_named(policy, body.ae_title)), 201, [("location", place)])

    async def put(self, request: Request) -> Response:
        """The handler."""
        body, ae_title = await read_body(request, Device), request.arguments["ae_title"]
        if body.ae_title != ae_title:
            raise HttpError(400, "INVALID_REQUEST", "ae_title is another one in the path")
        async with changing():
            await self._changes.only_if(_check(request)).put(_entity(body), caller_of(request))
        return await self.show(request)

    async def remove(self, request: Request) -> Response:
        """The handler."""
        ae_title = request.arguments["ae_title"]
        _named(await policy_now(self._changes.policy), ae_title)
        async with changing():
            await self._changes.only_if(_check(request)).remove(ae_title, caller_of(request))
        return Response(status=204)

    async def turn_away(self, request: Request) -> Response:
        """The handler."""
        ae_title = request.arguments["ae_title"]
        _named(await policy_now(self._changes.policy), ae_title)
        async with changing():
            await self._changes.turn_away(ae_title, caller_of(request))
        return await self.show(request)

    async def list_rejected(self, request: Request) -> Response:
        """The handler."""
        policy = await policy_now(self._changes.policy)
        callers = await self._read_rejected()
        known = {one.ae_title for one in policy.entities if one.active}
        made = page_of(callers, page_request(request), _latest_first)
        page = Page(data=[_rejected(one, known) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def forget_rejected(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            count = await trio.to_thread.run_sync(self._rejected.clear)
        return answer(Forgotten(count=count))

    async def _read_rejected(self) -> Sequence[RejectedCaller]:
        try:
            return await trio.to_thread.run_sync(self._rejected.read)
        except PolicyError as error:
            raise HttpError(503, "UNAVAILABLE", "they cannot be read; see the log") from error


def _latest_first(caller: RejectedCaller) -> Key:
    return (-datetime.fromisoformat(caller.last).timestamp(), *caller.key)


def _named(policy: Policy, ae_title: str) -> ApplicationEntity:
    for one in policy.entities:
        if one.ae_title == ae_title:
            return one
    raise not_found("application entity in the policy")


def _check(request: Request) -> Callable[[Policy], None]:
    def check(policy: Policy) -> None:
        title = request.arguments["ae_title"]
        found = next((one for one in policy.entities if one.ae_title == title), None)
        check_unchanged(request, None if found is None else _device(found))

    return check


def _device(entity: ApplicationEntity) -> Device:
    return Device(
        ae_title=entity.ae_title,
        roles=entity.roles,
        addresses=entity.addresses,
        tls=entity.tls,
        certificates=tuple(
            Certificate(
                fingerprint=rule.fingerprint,
                subject=rule.subject,
                name=rule.name,
                issuer=rule.issuer,
            )
            for rule in entity.certificates
        ),
        allowed=tuple(permission_texts(entity.allowed)),
        denied=tuple(permission_texts(entity.denied)),
        sop_classes=tuple(sorted(entity.sop_classes)),
        active=entity.active,
        description=entity.description,
        user=entity.user,
    )


def _entity(device: Device) -> ApplicationEntity:
    """What a body says.

    Raises:
        PolicyError: it says what cannot be.
        HttpError: a permission is none (400).
    """
    if not (device.description.isprintable() or not device.description):
        raise PolicyError("the description is one line of text")
    return ApplicationEntity(
        ae_title=device.ae_title,
        certificates=tuple(
            CertificateRule(
                fingerprint=rule.fingerprint,
                subject=rule.subject,
                name=rule.name,
                issuer=rule.issuer,
            )
            for rule in device.certificates
        ),
        addresses=device.addresses,
        tls=device.tls,
        roles=device.roles,
        allowed=permissions_in(device.allowed),
        denied=permissions_in(device.denied),
        sop_classes=frozenset(device.sop_classes),
        active=device.active,
        description=device.description,
        user=device.user,
    )


def _rejected(caller: RejectedCaller, known: set[str]) -> Rejected:
    return Rejected(
        address=caller.address,
        calling_ae_title=caller.calling_ae_title,
        called_ae_title=caller.called_ae_title,
        certificate=caller.certificate,
        count=caller.count,
        first=caller.first,
        last=caller.last,
        why=caller.why,
        cure=caller.cure,
        is_admitted=caller.calling_ae_title in known,
    )
