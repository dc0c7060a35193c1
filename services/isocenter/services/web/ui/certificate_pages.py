"""Page of certificates: what ends when, issuing, signing, revocation, downloads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.security.certificates.changes import CertificateChanges, CertificateRecord
from isocenter.services.security.certificates.expiry import WARN_WITHIN, Expiry
from isocenter.services.security.certificates.issued import CertificateError
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_PEM: Final = "application/x-pem-file"
_ZIP: Final = "application/zip"
_NOTHING: Final[Mapping[str, str]] = {}
_SPELLED: Final = {"-", "_", "."}


class CertificatePages:
    """Answers with certificates; issues, signs and revokes them.

    Args:
        changes: None: the certificates come from a CA elsewhere.
        expiries: of what the server itself uses.
    """

    def __init__(
        self,
        changes: CertificateChanges | None,
        expiries: Callable[[], Sequence[Expiry]],
        layout: Layout,
    ) -> None:
        self._changes = changes
        self._expiries = expiries
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, their forms, and their downloads."""
        yield page("/certificates", "state", self.show, "Certificates, and until when they last.")
        if self._changes is None:
            return
        for path, handler, text in (
            ("/certificates/ca.crt", self.ca_certificate, "The certificate of our CA."),
            ("/certificates/crl.pem", self.revocation_list, "What our CA has revoked."),
        ):
            yield Route(
                method="GET", path=path, handler=handler, text=text, needs="state", produces=(_PEM,)
            )
        both = ("text/html", _ZIP)
        text = "Issue a key and a certificate, as a ZIP file."
        yield action("/certificates", "configure", self.issue, text, produces=both)
        text = "Sign a certificate signing request."
        yield action("/certificates/sign", "configure", self.sign, text, produces=both)
        yield action("/certificates/revoke", "configure", self.revoke, "Revoke a certificate.")

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._page(request, _NOTHING, "")

    async def ca_certificate(self, request: Request) -> Response:
        """The handler of the download of the CA's own."""
        return await self._download(self._needed.ca_certificate, "ca.crt")

    async def revocation_list(self, request: Request) -> Response:
        """The handler of the download of the list of revoked ones."""
        return await self._download(self._needed.revocation_list, "crl.pem")

    async def issue(self, request: Request) -> Response:
        """The handler of the form that makes key and certificate."""
        fields = await read_fields(request)
        name, title = _names(fields)
        try:
            content = await self._needed.issue(
                name, title, _hosts(fields), fields.get("passphrase", ""), caller_of(request)
            )
        except CertificateError as error:
            return await self._page(request, fields, str(error))
        return _bundle(name, content)

    async def sign(self, request: Request) -> Response:
        """The handler of the form that signs a request."""
        fields = await read_fields(request)
        name, title = _names(fields)
        content = fields.get("request", "").encode("utf-8", "replace")
        try:
            made = await self._needed.sign(content, name, title, _hosts(fields), caller_of(request))
        except CertificateError as error:
            return await self._page(request, fields, str(error))
        return _bundle(name, made)

    async def revoke(self, request: Request) -> Response:
        """The handler of the button that revokes one."""
        name = (await read_fields(request)).get("name", "")
        try:
            await self._needed.revoke(name, caller_of(request))
        except CertificateError as error:
            return await self._page(request, _NOTHING, str(error))
        return Response(status=303, headers=[("location", "/certificates")])

    @property
    def _needed(self) -> CertificateChanges:
        assert self._changes is not None, "there are no such routes without"
        return self._changes

    async def _download(self, read: Callable[[], Awaitable[bytes]], name: str) -> Response:
        try:
            content = await read()
        except CertificateError as error:
            raise HttpError(503, "UNAVAILABLE", "the CA cannot be read; see the log") from error
        return _attachment(name, _PEM, content)

    async def _page(self, request: Request, fields: Mapping[str, str], fault: str) -> Response:
        record: CertificateRecord | None = None
        trouble = ""
        if self._changes is not None:
            try:
                record = await self._changes.record()
            except CertificateError as error:
                trouble = str(error)
        return self._layout.page(
            request,
            "certificates.html",
            status=400 if fault else 200,
            section="certificates",
            own=self._expiries(),
            record=record,
            trouble=trouble,
            has_ca=self._changes is not None,
            is_soon=_is_soon,
            now=datetime.now(UTC),
            fields=fields,
            fault=fault,
        )


def _is_soon(ends: datetime) -> bool:
    return ends - datetime.now(UTC) < WARN_WITHIN


def _names(fields: Mapping[str, str]) -> tuple[str, str]:
    """What the files are called, and the AE title: of the first what can stand in a name."""
    title = fields.get("ae_title", "").strip()
    name = fields.get("name", "").strip()
    if not name:
        name = "".join(one if one.isalnum() or one in _SPELLED else "_" for one in title)
    return name, title


def _hosts(fields: Mapping[str, str]) -> Sequence[str]:
    return fields.get("hosts", "").replace(",", " ").split()


def _bundle(name: str, content: bytes) -> Response:
    return _attachment(f"{name}.zip", _ZIP, content)


def _attachment(name: str, media_type: str, content: bytes) -> Response:
    headers = [
        ("content-type", media_type),
        ("content-disposition", f'attachment; filename="{name}"'),
        ("cache-control", "private, no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    return Response(headers=headers, body=content)
