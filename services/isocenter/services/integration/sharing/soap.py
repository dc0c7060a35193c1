"""SOAP 1.2 over HTTP, with documents beside the envelope (MTOM, XOP; ITI TF-2 V)."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.sharing.ports import PublishingError
from isocenter.services.integration.sharing.xml_text import (
    XmlElement,
    document,
    element,
    read_xml_document,
    text,
)
from isocenter.services.net.http.client import Content, HttpClient, HttpResponse
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.net.http.media_types import MediaTypeError, parse_media_type
from isocenter.services.net.http.multipart import (
    MultipartError,
    MultipartParser,
    PartData,
    PartStarted,
    boundary_of,
)

ENVELOPE: Final = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING: Final = "http://www.w3.org/2005/08/addressing"
_ANONYMOUS: Final = "http://www.w3.org/2005/08/addressing/anonymous"
XOP: Final = "http://www.w3.org/2004/08/xop/include"
SOAP: Final = "application/soap+xml"
_MOST_ANSWER: Final = 64 << 20
_MOST_PARTS: Final = 64


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document beside the envelope.

    Attributes:
        content_id: by which the envelope names it.
    """

    content_id: str
    media_type: str
    content: bytes

    def included(self) -> str:
        """What stands in the envelope in its place."""
        return include(self.content_id)


@dataclass(frozen=True, slots=True)
class SoapAnswer:
    """An answer.

    Attributes:
        body: of the envelope.
        attachments: by their content IDs.
        header: of the envelope; None: it has none.
    """

    body: XmlElement
    attachments: dict[str, bytes]
    header: XmlElement | None = None


async def call(
    client: HttpClient, action: str, body: str, attachments: tuple[Attachment, ...] = ()
) -> SoapAnswer:
    """Ask a service.

    Args:
        client: of the address of the service.
        body: markup.

    Raises:
        PublishingError: it answers with a fault that the caller is to blame for.
        HttpClientError: it cannot be reached, cannot do it now, or answers nonsense.
    """
    async with asking(client, action, body, attachments) as response:
        raw = await response.body(_MOST_ANSWER)
        kind = response.header("content-type") or ""
        status = response.status
    return await checked_answer(kind, raw, status)


@asynccontextmanager
async def asking(
    client: HttpClient, action: str, body: str, attachments: tuple[Attachment, ...] = ()
) -> AsyncIterator[HttpResponse]:
    """The response of a service, whose body is to be read.

    Raises:
        HttpClientError: as of `call`.
    """
    envelope = _envelope(client.base, action, body)
    if attachments:
        media_type, data = _packaged(action, envelope, attachments)
    else:
        media_type, data = f'{SOAP}; charset=UTF-8; action="{action}"', envelope
    content = Content(media_type=media_type, pieces=lambda: _once(data), length=len(data))
    accept = (("accept", f"{SOAP}, multipart/related"),)
    try:
        # A fault comes with a status of 400 or 500, and says who is to blame.
        async with client.request(
            "POST", client.base, headers=accept, content=content, also=(400, 500)
        ) as response:
            yield response
    except HttpStatusError as error:
        # Without what is said of it, which may name whom it is about.
        raise HttpStatusError(error.status, "") from None


async def checked_answer(kind: str, raw: bytes, status: int) -> SoapAnswer:
    """An answer that is no fault; raises as `call` does.

    Args:
        kind: its `Content-Type`.
        status: that it came with.
    """
    try:
        # Of a large one that takes a while.
        answer = await trio.to_thread.run_sync(read_answer, kind, raw)
    except BrokenAnswerError:
        if status >= 300:
            raise HttpStatusError(status, "") from None
        raise
    fault = next((one for one in answer.body.children if one.name == "Fault"), None)
    if fault is None:
        return answer
    code = fault.first("Value")
    said = "" if code is None else code.text.strip().rpartition(":")[2]
    if said == "Receiver":
        raise HttpStatusError(500, "")
    # Without its reason, which may name whom it is about.
    raise PublishingError(f"the service answered with the fault {said if said.isalpha() else '?'}")


def _envelope(address: str, action: str, body: str) -> bytes:
    must = {"s:mustUnderstand": "1"}
    header = element(
        "s:Header",
        None,
        element("a:Action", must, text(action)),
        element("a:MessageID", None, f"urn:uuid:{uuid4()}"),
        element("a:ReplyTo", None, element("a:Address", None, _ANONYMOUS)),
        element("a:To", must, text(address)),
    )
    spaces = {"xmlns:s": ENVELOPE, "xmlns:a": ADDRESSING}
    return document(element("s:Envelope", spaces, header, element("s:Body", None, body)))


def response_envelope(action: str, relates_to: str, body: str) -> bytes:
    """The envelope of a response.

    Args:
        relates_to: ID of the request; empty: it had none.
        body: markup.
    """
    related = [element("a:RelatesTo", None, text(relates_to))] if relates_to else []
    header = element(
        "s:Header",
        None,
        element("a:Action", {"s:mustUnderstand": "1"}, text(action)),
        element("a:MessageID", None, f"urn:uuid:{uuid4()}"),
        element("a:To", None, _ANONYMOUS),
        *related,
    )
    spaces = {"xmlns:s": ENVELOPE, "xmlns:a": ADDRESSING}
    return document(element("s:Envelope", spaces, header, element("s:Body", None, body)))


def fault(code: str, reason: str) -> str:
    """The body of a fault: who is to blame (``Sender``, ``Receiver``, ``MustUnderstand``), and
    why, without patients."""
    return element(
        "s:Fault",
        None,
        element("s:Code", None, element("s:Value", None, f"s:{code}")),
        element("s:Reason", None, element("s:Text", {"xml:lang": "en"}, text(reason))),
    )


def decoded(text: str) -> bytes:
    """A document that stands in an envelope, in base64.

    Raises:
        BrokenAnswerError: it is none.
    """
    try:
        return b64decode(text.encode("ascii").translate(None, b" \t\r\n"), validate=True)
    except ValueError as error:
        raise BrokenAnswerError("the document of the answer is none") from error


def include(content_id: str) -> str:
    """What stands in an envelope in the place of the part of that ID."""
    return element("xop:Include", {"xmlns:xop": XOP, "href": f"cid:{content_id}"})


def _packaged(
    action: str, envelope: bytes, attachments: tuple[Attachment, ...]
) -> tuple[str, bytes]:
    """As multipart/related, the envelope first."""
    boundary = f"MIMEBoundary_{secrets.token_hex(16)}"
    root = f"root.{secrets.token_hex(8)}@isocenter"
    parts = [
        (
            f'application/xop+xml; charset=UTF-8; type="{SOAP}"; action="{action}"',
            root,
            envelope,
        )
    ]
    parts += [(one.media_type, one.content_id, one.content) for one in attachments]
    pieces: list[bytes] = []
    for media_type, content_id, content in parts:
        pieces.append(
            f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{content_id}>\r\n\r\n".encode()
        )
        pieces += [content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    kind = (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; '
        f'start="<{root}>"; start-info="{SOAP}"; action="{action}"'
    )
    return kind, b"".join(pieces)


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def read_answer(kind: str, raw: bytes) -> SoapAnswer:
    """An answer by its `Content-Type`.

    Raises:
        BrokenAnswerError: it is no envelope of SOAP 1.2.
    """
    attachments: dict[str, bytes] = {}
    if kind.strip().lower().startswith("multipart/"):
        root, attachments = _parts(kind, raw)
    else:
        root = raw
    found = read_xml_document(root)
    body = next((one for one in found.children if one.name == "Body"), None)
    header = next((one for one in found.children if one.name == "Header"), None)
    if (found.name, found.namespace) != ("Envelope", ENVELOPE) or body is None:
        raise BrokenAnswerError("the answer is no SOAP 1.2 envelope")
    return SoapAnswer(body, attachments, header)


def _parts(kind: str, raw: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The envelope, which is the first part, and the others by their content IDs."""
    found: list[tuple[str, bytearray]] = []
    try:
        parser = MultipartParser(boundary_of(parse_media_type(kind)), most_parts=_MOST_PARTS)
        for event in parser.feed(raw):
            if isinstance(event, PartStarted):
                name = (event.header("content-id") or "").strip().strip("<>")
                found.append((name, bytearray()))
            elif isinstance(event, PartData):
                found[-1][1].extend(event.data)
        parser.close()
    except (MultipartError, MediaTypeError) as error:
        raise BrokenAnswerError(f"the parts of the answer: {error}") from error
    if not found:
        raise BrokenAnswerError("the answer has no parts")
    return bytes(found[0][1]), {name: bytes(data) for name, data in found[1:]}
