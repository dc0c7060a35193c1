"""Certificates in the API: listed, issued, signed, revoked, downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.security.certificates.changes import CertificateChanges
from isocenter.services.security.certificates.expiry import Expiry
from isocenter.services.security.certificates.issued import CertificateError, Issued
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.web.rest.policy_answers import not_found

_SERVICE: Final = "Certificates"
_PATH: Final = "/security/certificates"
_PEM: Final = "application/x-pem-file"
_ZIP: Final = "application/zip"


class IssuedCertificate(Body):
    """A certificate that the private CA has signed; `state`: valid, expired or revoked."""

    name: str
    ae_title: str
    serial_number: str
    not_before: str
    not_after: str
    revoked_at: str | None
    state: str


class OwnCertificate(Body):
    """What the server itself uses, or trusts, and until when."""

    what: str
    name: str
    ends: str
    warning: str


class OwnCertificates(Body):
    """What the server itself uses."""

    certificates: list[OwnCertificate]


class NewCertificate(Body):
    """A certificate to be issued; the AE title is the name when it is not said.

    With a passphrase key and certificate are a PKCS #12 file.  With `request`, a certificate
    signing request in PEM, the key stays where it is.
    """

    name: str
    ae_title: str = ""
    hosts: tuple[str, ...] = ()
    passphrase: str = ""
    request: str = ""


class CertificateApi:
    """Answers with certificates; issues, signs and revokes them.

    Args:
        changes: None: the certificates come from a CA elsewhere.
        expiries: of what the server itself uses.
    """

    def __init__(
        self, changes: CertificateChanges | None, expiries: Callable[[], Sequence[Expiry]]
    ) -> None:
        self._changes = changes
        self._expiries = expiries

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/system/certificates", self.own, "Certificates that the server itself uses.",
            name="ListOwnCertificates", service=_SERVICE, needs="state", gives=OwnCertificates,
        )  # fmt: skip
        if self._changes is not None:
            yield from self._of_ca()

    def _of_ca(self) -> Iterator[Route[Handler]]:
        yield endpoint(
            "GET", _PATH, self.list, "Certificates that were issued, the oldest first.",
            name="ListCertificates", service=_SERVICE, needs="state",
            gives=Page[IssuedCertificate], parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", _PATH, self.issue,
            "Issue a key and a certificate, or sign a request; a ZIP file that is there this once.",
            name="IssueCertificate", service=_SERVICE, needs="configure", takes=NewCertificate,
            produces=_ZIP,
            answers=(
                ok("The files.", status=201),
                Answer(400, "It cannot be made so, or its name is taken."),
            ),
        )  # fmt: skip
        yield endpoint(
            "DELETE", f"{_PATH}/{{name}}", self.revoke,
            "Revoke the certificates of a name; the server refuses them from now on.",
            name="RevokeCertificate", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "GET", "/security/ca.crt", self.ca_certificate, "The certificate that peers trust.",
            name="GetCaCertificate", service=_SERVICE, needs="state", produces=_PEM,
            answers=(ok("In PEM."),),
        )  # fmt: skip
        yield endpoint(
            "GET", "/security/crl.pem", self.revocation_list, "Certificates that were revoked.",
            name="GetRevocationList", service=_SERVICE, needs="state", produces=_PEM,
            answers=(ok("In PEM."),),
        )  # fmt: skip

    async def own(self, request: Request) -> Response:
        """The handler."""
        return answer(
            OwnCertificates(
                certificates=[
                    OwnCertificate(
                        what=one.what,
                        name=one.name,
                        ends=one.ends.isoformat(),
                        warning=one.warning(),
                    )
                    for one in self._expiries()
                ]
            )
        )

    async def list(self, request: Request) -> Response:
        """The handler."""
        now = datetime.now(UTC)
        async with _of_ca():
            record = await self._needed.record()
        made = page_of(
            record.issued,
            page_request(request),
            lambda one: (one.not_before.timestamp(), f"{one.serial_number:x}"),
        )
        page = Page(data=[_shown(one, now) for one in made.data], pagination=made.pagination)
        return answer(page, headers=link_headers(request, page))

    async def issue(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewCertificate)
        caller = caller_of(request)
        try:
            if body.request:
                content = await self._needed.sign(
                    body.request.encode(), body.name, body.ae_title, body.hosts, caller
                )
            else:
                content = await self._needed.issue(
                    body.name, body.ae_title, body.hosts, body.passphrase, caller
                )
        except CertificateError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        headers = [*_attachment(_ZIP, f"{body.name}.zip"), ("x-content-type-options", "nosniff")]
        return Response(status=201, headers=headers, body=content)

    async def revoke(self, request: Request) -> Response:
        """The handler."""
        name = request.arguments["name"]
        async with _of_ca():
            record = await self._needed.record()
        if not any(one.name == name and one.revoked_at is None for one in record.issued):
            raise not_found("certificate that is not revoked")
        try:
            await self._needed.revoke(name, caller_of(request))
        except CertificateError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        return Response(status=204)

    async def ca_certificate(self, request: Request) -> Response:
        """The handler."""
        async with _of_ca():
            content = await self._needed.ca_certificate()
        return Response(headers=_attachment(_PEM, "ca.crt"), body=content)

    async def revocation_list(self, request: Request) -> Response:
        """The handler."""
        async with _of_ca():
            content = await self._needed.revocation_list()
        return Response(headers=_attachment(_PEM, "crl.pem"), body=content)

    @property
    def _needed(self) -> CertificateChanges:
        assert self._changes is not None, "there are no such routes without"
        return self._changes


@asynccontextmanager
async def _of_ca() -> AsyncIterator[None]:
    """What cannot be read of the CA is answered so."""
    try:
        yield
    except CertificateError as error:
        raise HttpError(503, "UNAVAILABLE", "the CA cannot be read; see the log") from error


def _attachment(media_type: str, name: str) -> Sequence[tuple[str, str]]:
    return (
        ("content-type", media_type),
        ("content-disposition", f'attachment; filename="{name}"'),
        ("cache-control", "no-store"),
    )


def _shown(issued: Issued, now: datetime) -> IssuedCertificate:
    return IssuedCertificate(
        name=issued.name,
        ae_title=issued.common_name,
        serial_number=f"{issued.serial_number:x}",
        not_before=issued.not_before.isoformat(),
        not_after=issued.not_after.isoformat(),
        revoked_at=issued.revoked_at.isoformat() if issued.revoked_at else None,
        state=issued.state(now),
    )
