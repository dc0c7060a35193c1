"""Pages of links to studies, and of what a link opens."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.ports import ShareLink
from isocenter.services.security.access.share_links import MOST_DAYS
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.forms import read_fields
from isocenter.services.web.shared_studies import SharedStudies
from isocenter.services.web.study_links import StudyLinks
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout

#: Links begin with it.
PATH: Final = "/share"
_DAYS: Final = 7
#: Studies of so many links are shown with their patient; of others with their UID.
_MOST_NAMED: Final = 200


class SharePages:
    """Answers who shares a study, and who was given a link.

    Args:
        viewer: where one is served; empty: none is installed.
    """

    def __init__(
        self,
        links: StudyLinks,
        shared: SharedStudies,
        catalogue: Catalogue,
        layout: Layout,
        urls: PublicUrls,
        *,
        viewer: str,
    ) -> None:
        self._links = links
        self._shared = shared
        self._catalogue = catalogue
        self._layout = layout
        self._urls = urls
        self._viewer = viewer

    # For who shares.

    async def ask(self, request: Request) -> Response:
        """The handler of the form that makes a link."""
        return await self._form(request, {"days": str(_DAYS)}, "")

    async def share(self, request: Request) -> Response:
        """The handler of what is written into it: the link, this once."""
        fields = {name: text.strip() for name, text in (await read_fields(request)).items()}
        study = await self._catalogue.study(request.arguments["study"])
        try:
            text, link = await self._links.add(
                request,
                study["StudyInstanceUID"],
                label=fields.get("label", ""),
                days=_days(fields.get("days", "")),
                may_download=bool(fields.get("download")),
                passcode=fields.get("passcode", ""),
            )
        except PolicyError as error:
            return await self._form(request, fields, str(error))
        address = f"{self._urls.base(request).removesuffix(ROOT)}{PATH}/{text}"
        return self._layout.page(
            request, "shared.html", section="shares", study=study, link=link, address=address
        )

    async def list(self, request: Request) -> Response:
        """The handler of the list of links."""
        now = self._links.now()
        found = await self._links.listed(request)
        uids = [one.study_instance_uid for one in found[:_MOST_NAMED]]
        return self._layout.page(
            request, "shares.html", section="shares",
            links=[(one, one.state(now)) for one in found],
            studies=await self._catalogue.studies_named(uids),
        )  # fmt: skip

    async def revoke(self, request: Request) -> Response:
        """The handler of the button that ends one."""
        await self._links.revoke(request, (await read_fields(request)).get("link", ""))
        return Response(status=303, headers=[("location", "/shares")])

    async def _form(self, request: Request, fields: dict[str, str], fault: str) -> Response:
        study = await self._catalogue.study(request.arguments["study"])
        return self._layout.page(
            request,
            "share.html",
            status=400 if fault else 200,
            section="shares",
            study=study,
            fields=fields,
            fault=fault,
            viewer=self._viewer,
            most_days=MOST_DAYS,
        )

    # For who was given a link.

    async def show(self, request: Request) -> Response:
        """The handler of a link.  To look at it opens nothing yet: programs that look at links in
        messages are no people."""
        link = await self._shared.find(request, request.arguments["token"])
        caller = await self._shared.by_session(request)
        is_open = caller is not None and caller.link_id == link.link_id
        return self._page(request, link, is_open=is_open)

    async def open(self, request: Request) -> Response:
        """The handler of its button."""
        fields = await read_fields(request)
        token = request.arguments["token"]
        link = await self._shared.find(request, token)
        cookie = await self._shared.open(request, link, fields.get("passcode", ""))
        if cookie is None:
            return self._page(request, link, fault="the passcode is wrong")
        return Response(status=303, headers=[("location", f"{PATH}/{quote(token)}"), *cookie])

    def _page(
        self, request: Request, link: ShareLink, *, is_open: bool = False, fault: str = ""
    ) -> Response:
        return self._layout.page(
            request,
            "shared_with_you.html",
            status=403 if fault else 200,
            section="",
            link=link,
            is_open=is_open,
            fault=fault,
            viewer=self._viewer,
            web=f"{ROOT}/studies/{quote(link.study_instance_uid, safe='')}",
        )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 5):
        raise PolicyError("say for how many days")
    return int(text)


class ExternalViewers:
    """Leads to viewers on workstations, or of another server, each with a link of its own to the
    study, that ends in an hour.

    Args:
        volview: the address of a VolView; empty: there is none.
    """

    def __init__(self, links: StudyLinks, urls: PublicUrls, *, volview: str) -> None:
        self._links = links
        self._urls = urls
        self._volview = volview.rstrip("/")

    async def weasis(self, request: Request) -> Response:
        """The handler that opens Weasis, by its protocol for the operating system."""
        study = request.arguments["study"]
        token = await self._token(request, "Weasis")
        command = (
            f'$dicom:rs --url "{self._urls.base(request)}" -r "studyUID={study}" '
            f'-H "Authorization: Bearer {token}"'
        )
        return _leads_to(f"weasis://{quote(command, safe='')}")

    async def volview(self, request: Request) -> Response:
        """The handler that opens VolView: it asks this archive from its own origin, which
        `web.cors_origins` has to name."""
        token = await self._token(request, "VolView")
        root = quote(self._urls.base(request), safe="")
        return _leads_to(f"{self._volview}/?dicomweb={root}&token={token}")

    async def _token(self, request: Request, viewer: str) -> str:
        study = request.arguments["study"]
        if '"' in study or "\\" in study:
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        text, _ = await self._links.add(request, study, label=viewer, is_for_viewer=True)
        return text


def _leads_to(address: str) -> Response:
    headers = [
        ("location", address), ("cache-control", "no-store"), ("referrer-policy", "no-referrer"),
    ]  # fmt: skip
    return Response(status=303, headers=headers)
