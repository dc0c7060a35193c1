"""UPS-RS client (PS3.18 11, 8.10): workitems of a server, and their events.

async with DicomWebClient("https://archive.example/dicomweb", token=token) as archive:
    for found in await archive.workitems.search([("ProcedureStepState", "SCHEDULED")]):
        …
    await archive.workitems.subscribe("AI")
    async with archive.workitems.events("AI") as events:
        async for event in events:
            …
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson
import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import EXPLICIT_LITTLE
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.element_values import UTF_8
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.net.http.client import Content, Headers, HttpClient
from isocenter.services.net.http.client_errors import (
    BrokenAnswerError,
    HttpClientError,
    ServerUnreachableError,
)
from isocenter.services.service_classes.ups.workitem import (
    GLOBAL_SUBSCRIPTION,
    STATE,
    TRANSACTION_UID,
    WorkitemState,
    element,
)
from isocenter.services.web.client.models import DICOM_JSON, Model, models_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_JSON: Final = (("accept", DICOM_JSON),)
_PATH: Final = "/workitems"
_READ: Final = 64 << 10
#: Of one event.
_MOST_EVENT: Final = 16 << 20


class WorkitemClient:
    """Workitems of a service; what its calls raise, `DicomWebClient` says.

    Args:
        tls, headers: as of the client of the service.
    """

    def __init__(
        self, http: HttpClient, *, tls: ssl.SSLContext | None = None, headers: Headers = ()
    ) -> None:
        self._http = http
        self._tls = tls
        self._headers = tuple(headers)

    async def create(self, sop_instance_uid: str, workitem: AttributeList | Dataset) -> str:
        """Create one; its address."""
        url = self._url("", ((sop_instance_uid, ""),))
        async with self._http.request("POST", url, content=_content(workitem)) as answer:
            return answer.header("location") or self._url(f"/{sop_instance_uid}")

    async def get(self, sop_instance_uid: str) -> Model:
        """One, as DICOM JSON."""
        url = self._url(f"/{sop_instance_uid}")
        async with self._http.request("GET", url, headers=_JSON) as answer:
            found = await models_of(answer)
        if len(found) != 1:
            raise HttpClientError("the answer is not one workitem")
        return found[0]

    async def search(
        self,
        keys: Iterable[tuple[str, str]] = (),
        *,
        limit: int | None = None,
        offset: int = 0,
    ) -> Sequence[Model]:
        """Those that match, by keyword or tag; as many as the server gives at once."""
        query = list(keys)
        if limit is not None:
            query.append(("limit", str(limit)))
        if offset:
            query.append(("offset", str(offset)))
        async with self._http.request("GET", self._url("", query), headers=_JSON) as answer:
            return await models_of(answer)

    async def update(
        self,
        sop_instance_uid: str,
        changes: AttributeList | Dataset,
        transaction_uid: str = "",
    ) -> None:
        """Change attributes; *transaction_uid* is the lock, once it is IN PROGRESS."""
        query = (("transaction-uid", transaction_uid),) if transaction_uid else ()
        url = self._url(f"/{sop_instance_uid}", query)
        async with self._http.request("POST", url, content=_content(changes)):
            pass

    async def change_state(
        self, sop_instance_uid: str, state: WorkitemState, transaction_uid: str
    ) -> None:
        """Begin, complete or cancel it as its performer."""
        information = AttributeList(
            {
                TRANSACTION_UID: element(TRANSACTION_UID, "UI", transaction_uid),
                STATE: element(STATE, "CS", state.value),
            }
        )
        url = self._url(f"/{sop_instance_uid}/state")
        async with self._http.request("PUT", url, content=_content(information)):
            pass

    async def request_cancel(
        self, sop_instance_uid: str, reasons: AttributeList | Dataset | None = None
    ) -> None:
        """Ask for it to be cancelled."""
        content = _content(AttributeList({}) if reasons is None else reasons)
        url = self._url(f"/{sop_instance_uid}/cancelrequest")
        async with self._http.request("POST", url, content=content):
            pass

    async def subscribe(
        self,
        ae_title: str,
        sop_instance_uid: str = GLOBAL_SUBSCRIPTION,
        *,
        has_lock: bool = False,
        keys: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Have a subscriber be told of one workitem, or of all that there are and come.

        Args:
            keys: of `FILTERED_SUBSCRIPTION`.
        """
        query = [("deletionlock", "true" if has_lock else "false"), *keys]
        url = self._url(self._subscriber(sop_instance_uid, ae_title), query)
        async with self._http.request("POST", url):
            pass

    async def unsubscribe(self, ae_title: str, sop_instance_uid: str = GLOBAL_SUBSCRIPTION) -> None:
        """Have it be told no more."""
        url = self._url(self._subscriber(sop_instance_uid, ae_title))
        async with self._http.request("DELETE", url):
            pass

    async def suspend(self, ae_title: str) -> None:
        """Have it be told of no workitems that are yet to come."""
        url = self._url(self._subscriber(GLOBAL_SUBSCRIPTION, ae_title) + "/suspend")
        async with self._http.request("POST", url):
            pass

    @asynccontextmanager
    async def events(self, ae_title: str) -> AsyncIterator[AsyncIterator[Model]]:
        """Events of a subscriber as they come: DICOM JSON with the command elements of an
        N-EVENT-REPORT; it ends when the server ends it.

        Raises:
            ServerUnreachableError, HttpClientError: there is no socket.
        """
        url = urlsplit(f"{self._http.base}/ws/subscribers/{quote(ae_title, safe='')}")
        stream = await self._connected(url.hostname or "", url.port, url.scheme == "https")
        async with stream, aclosing(self._told(stream, url.netloc, url.path)) as told:
            yield told

    async def _connected(self, host: str, port: int | None, is_tls: bool) -> trio.abc.Stream:
        try:
            if not is_tls:
                return await trio.open_tcp_stream(host, port or 80)
            context = self._tls or ssl.create_default_context()
            return await trio.open_ssl_over_tcp_stream(host, port or 443, ssl_context=context)
        except OSError as error:
            raise ServerUnreachableError(f"{host}: {error.strerror or error}") from error

    async def _told(
        self, stream: trio.abc.Stream, host: str, path: str
    ) -> AsyncGenerator[Model, None]:
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import (
            CloseConnection,
            Ping,
            RejectConnection,
            Request,
            TextMessage,
        )
        from wsproto.utilities import ProtocolError

        extra = [(name.encode("ascii"), value.encode("ascii")) for name, value in self._headers]
        connection = WSConnection(ConnectionType.CLIENT)
        text = ""
        try:
            await stream.send_all(
                connection.send(Request(host=host, target=path, extra_headers=extra))
            )
            while True:
                data = await stream.receive_some(_READ)
                connection.receive_data(bytes(data) or None)
                for event in connection.events():
                    match event:
                        case TextMessage():
                            text += event.data
                            if len(text) > _MOST_EVENT:
                                raise BrokenAnswerError("an event is too long")
                            if event.message_finished:
                                found: Any = orjson.loads(text)
                                text = ""
                                yield found
                        case Ping():
                            await stream.send_all(connection.send(event.response()))
                        case RejectConnection():
                            raise HttpClientError(
                                f"the server opens no socket: status {event.status_code}"
                            )
                        case CloseConnection():
                            await stream.send_all(connection.send(event.response()))
                            return
                        case _:
                            pass
                if not data:
                    return
        except (ProtocolError, orjson.JSONDecodeError) as error:
            raise BrokenAnswerError("what came by the socket cannot be read") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BrokenAnswerError("the socket broke off") from error

    @staticmethod
    def _subscriber(sop_instance_uid: str, ae_title: str) -> str:
        return f"/{sop_instance_uid}/subscribers/{quote(ae_title, safe='')}"

    def _url(self, path: str, query: Iterable[tuple[str, str]] = ()) -> str:
        said = "&".join(
            urlencode([(name, value)]) if value else quote(name, safe=".") for name, value in query
        )
        return self._http.url(_PATH + path) + (f"?{said}" if said else "")


def _content(attributes: AttributeList | Dataset) -> Content:
    if not isinstance(attributes, AttributeList):
        attributes = AttributeList.from_dataset(attributes)
    data = attributes.in_character_set(UTF_8).encode(EXPLICIT_VR_LITTLE_ENDIAN)
    body = json_of(data, EXPLICIT_LITTLE)

    async def pieces() -> AsyncGenerator[Buffer, None]:
        await trio.lowlevel.checkpoint()
        yield body

    return Content(media_type=DICOM_JSON, pieces=pieces, length=len(body))
