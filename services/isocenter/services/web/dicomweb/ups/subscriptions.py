"""Subscriptions to workitems over the web, and sockets for events (PS3.18 8.10, 11.10).

Events wait in the database until they were sent, in their order; who comes again gets what has come
meanwhile.  One that was sent, and whose end nobody saw, is sent again.
"""

from __future__ import annotations

import logging
from typing import Final

import orjson
import trio

from isocenter.engine.ae import is_ae_title
from isocenter.engine.dataset import EXPLICIT_LITTLE
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import UTF_8
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.errors import OperationError, StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response, Upgrade
from isocenter.services.net.http.socket_session import WebSocket, WebSocketClosed
from isocenter.services.service_classes.normalized.ports import REPORT_LIMITS
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.ups.manager import WorkitemManager
from isocenter.services.service_classes.ups.ports import Channel, Subscriber, WaitingEvent
from isocenter.services.service_classes.ups.workitem import FILTERED_SUBSCRIPTION, UPS_EVENT
from isocenter.services.web.dicomweb.search.parameters import (
    joined_values,
    parse_parameters,
    warning_headers,
)
from isocenter.services.web.dicomweb.ups.refusals import refusal, warnings_of
from isocenter.services.web.dicomweb.ups.workitems import WORKITEM, key_of
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.principal import Principal, what_may

log = logging.getLogger("isocenter.web")

SUBSCRIBER: Final = WORKITEM + "/subscribers/{subscriber}"
SUSPEND: Final = SUBSCRIBER + "/suspend"
#: Where a subscriber opens its socket; the first is what we say, the second what others have.
SOCKETS: Final = ("/ws/subscribers/{subscriber}", "/subscribers/{subscriber}")
_DELETION_LOCK: Final = "deletionlock"
_FILTER: Final = "filter"
_N_EVENT_REPORT: Final = 0x0100
_LOOK_SECONDS: Final = 1.0
#: Questions a second of all sockets together that have nothing to send.
_MOST_LOOKS: Final = 100
_AT_ONCE: Final = 100
#: Sockets of this process at most.
MOST_SOCKETS: Final = 1_000


class WebSubscriptions:
    """Subscribes callers, and sends them events.

    Args:
        ae_title: by which subscribers know us.
    """

    def __init__(
        self, manager: WorkitemManager, urls: PublicUrls, limits: Limits, *, ae_title: str
    ) -> None:
        self._manager = manager
        self._urls = urls
        self._limits = limits
        self._ae_title = ae_title
        #: Subscriber and who it is → the socket that it has; a newer one takes its place.
        self._sockets: dict[tuple[str, str], trio.CancelScope] = {}

    async def subscribe(self, request: Request) -> Response:
        """The handler of subscription (11.10)."""
        uid, ae_title = _named(request)
        lock = next((v for name, v in request.query if name.lower() == _DELETION_LOCK), "false")
        if lock.lower() not in ("true", "false"):
            raise HttpError(400, "BAD_QUERY", "deletionlock is true or false")
        subscriber = Subscriber(
            ae_title=ae_title,
            channel=Channel.WEB,
            as_ae_title=self._ae_title,
            has_lock=lock.lower() == "true",
            owner=_owner(request),
        )
        keys = AttributeList({})
        if uid == FILTERED_SUBSCRIPTION:
            keys = self._filter(request)
        try:
            status = await self._manager.subscribe(uid, subscriber, keys)
        except OperationError as error:
            if error.status == Status.RESOURCE_LIMITATION:
                raise HttpError(503, "TOO_MANY_SUBSCRIBERS", error.comment) from error
            raise refusal(error) from error
        base = self._urls.base(request)
        socket = SOCKETS[0].replace("{subscriber}", ae_title)
        headers = [
            ("content-location", "ws" + base.removeprefix("http") + socket),
            ("cache-control", "no-store"),
            *warning_headers(base, warnings_of(status), is_cut=False),
        ]
        return Response(status=201, headers=headers)

    async def unsubscribe(self, request: Request) -> Response:
        """The handler of the end of a subscription (11.11)."""
        uid, ae_title = _named(request)
        try:
            await self._manager.unsubscribe(uid, ae_title, Channel.WEB, _acting(request))
        except OperationError as error:
            raise refusal(error) from error
        return Response(headers=[("cache-control", "no-store")])

    async def suspend(self, request: Request) -> Response:
        """The handler of suspension of a global subscription (11.12)."""
        uid, ae_title = _named(request)
        try:
            await self._manager.suspend(uid, ae_title, Channel.WEB, _acting(request))
        except OperationError as error:
            raise refusal(error) from error
        return Response(headers=[("cache-control", "no-store")])

    async def open(self, request: Request) -> Response:
        """The handler of a socket (8.10.4)."""
        ae_title, owner = _subscriber(request), _owner(request)
        if not await self._manager.workitems.may_listen(ae_title, owner):
            raise HttpError(
                403, "NOT_YOURS", "that AE title is another subscriber's; or subscribe by it again"
            )
        if len(self._sockets) >= MOST_SOCKETS and (ae_title, owner) not in self._sockets:
            raise HttpError(503, "TOO_MANY_SOCKETS", "this server has as many sockets as it may")

        async def serve(socket: WebSocket) -> None:
            await self._serve(socket, ae_title, owner)

        return Upgrade(serve=serve)

    async def _serve(self, socket: WebSocket, ae_title: str, owner: str) -> None:
        place = (ae_title, owner)
        before = self._sockets.pop(place, None)
        if before is not None:
            before.cancel()
        scope = trio.CancelScope()
        self._sockets[place] = scope
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_events, socket, ae_title, owner)
                    # What it says means nothing; that it goes does.
                    await _until_closed(socket)
                    nursery.cancel_scope.cancel()
        except WebSocketClosed:
            pass
        finally:
            if self._sockets.get(place) is scope:
                del self._sockets[place]

    async def _send_events(self, socket: WebSocket, ae_title: str, owner: str) -> None:
        workitems = self._manager.workitems
        try:
            while True:
                try:
                    events = await workitems.waiting_events(ae_title, owner, _AT_ONCE)
                    for event in events:
                        text = _text_or_none(event)
                        if text is not None:
                            await socket.send(text)
                    if events:
                        await workitems.sent(ae_title, owner, events[-1].number)
                        continue
                except StorageError as error:
                    log.warning("events of workitems have to wait: %s", error)
                # Another process may have written some.
                with trio.move_on_after(look_seconds(len(self._sockets))):
                    await self._manager.changed.wait()
        except WebSocketClosed:
            pass

    def _filter(self, request: Request) -> AttributeList:
        """The keys of a filtered subscription: parameters, or ``filter=A=1,B=2``."""
        pairs = [
            (name, value)
            for name, value in request.query
            if name.lower() not in (_DELETION_LOCK, _FILTER)
        ]
        for name, value in request.query:
            if name.lower() == _FILTER:
                pairs += [
                    (part.partition("=")[0], part.partition("=")[2]) for part in value.split(",")
                ]
        said = parse_parameters(pairs)
        asked = {
            key_of(path): joined_values(dictionary_vr(path[-1]), values)
            for path, values in said.matched.items()
        }
        try:
            raw = build_identifier(asked.items(), None, EXPLICIT_VR_LITTLE_ENDIAN)
        except KeySyntaxError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from error
        return AttributeList.read(raw, EXPLICIT_VR_LITTLE_ENDIAN, self._limits)


def look_seconds(sockets: int) -> float:
    """After what time a socket asks whether another process has written events for it."""
    return max(_LOOK_SECONDS, sockets / _MOST_LOOKS)


def event_text(event: WaitingEvent) -> str:
    """What a socket is sent: Event Information behind the command elements of an N-EVENT-REPORT,
    as DICOM JSON (PS3.18 8.10.5)."""
    command = {
        "00000002": {"vr": "UI", "Value": [UPS_EVENT]},
        "00000100": {"vr": "US", "Value": [_N_EVENT_REPORT]},
        "00000110": {"vr": "US", "Value": [event.number & 0xFFFF]},
        "00001000": {"vr": "UI", "Value": [event.sop_instance_uid]},
        "00001002": {"vr": "US", "Value": [event.kind]},
    }
    # It was judged when it came, by limits that the settings may have raised.
    attributes = AttributeList.read(event.data_set, EXPLICIT_VR_LITTLE_ENDIAN, REPORT_LIMITS)
    data = attributes.in_character_set(UTF_8).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    information = orjson.loads(json_of(data, EXPLICIT_LITTLE))
    return orjson.dumps(command | information).decode()


def _text_or_none(event: WaitingEvent) -> str | None:
    """None: it cannot be written, and must not keep those behind it for ever."""
    try:
        return event_text(event)
    except Exception as error:
        log.error(
            "an event of workitem %s is left out: %s",
            event.sop_instance_uid,
            type(error).__name__,
        )
        return None


async def _until_closed(socket: WebSocket) -> None:
    try:
        while True:
            await socket.receive()
    except WebSocketClosed:
        return


def _named(request: Request) -> tuple[str, str]:
    uid = request.arguments["workitem"]
    if not is_safe_uid(uid):
        raise HttpError(400, "BAD_UID", "a workitem is named by a SOP Instance UID")
    return uid, _subscriber(request)


def _subscriber(request: Request) -> str:
    ae_title = request.arguments["subscriber"]
    if not is_ae_title(ae_title):
        raise HttpError(400, "BAD_AE_TITLE", "a subscriber is named by an AE title")
    return ae_title


def _owner(request: Request) -> str:
    """Whose the AE titles are by which the caller subscribes."""
    principal = request.caller
    if not isinstance(principal, Principal):
        return ""
    if principal.user:
        return f"user {principal.user}"
    return f"certificate {principal.certificate}" if principal.certificate else ""


def _acting(request: Request) -> str | None:
    """As `_owner`; None: who sets up the server may end the subscriptions of anybody."""
    return None if "configure" in what_may(request.caller) else _owner(request)
