"""Pages of publications: of a study, and of all that need attention."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import what_may
from isocenter.services.web.publications import MOST_BEHIND, Publications
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to

_PATH = "/studies/{study}/publish"


class PublicationPage:
    """Answers with publications of a study."""

    def __init__(self, publications: Publications, catalogue: Catalogue, layout: Layout) -> None:
        self._publications = publications
        self._catalogue = catalogue
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page("/publications", "export", self.behind, "What repositories ought to have.")
        yield page(_PATH, "export", self.show, "What repositories have of a study.")
        yield action(_PATH, "export", self.ask, "Publish the manifest of a study, or withdraw it.")

    async def behind(self, request: Request) -> Response:
        """The handler."""
        publications = await self._publications.behind()
        return self._layout.page(
            request,
            "publications.html",
            section="publications",
            repositories=await self._publications.repositories(),
            publications=publications,
            studies=await self._catalogue.studies_named(
                [one.study_instance_uid for one in publications]
            ),
            most=MOST_BEHIND,
        )

    async def show(self, request: Request) -> Response:
        """The handler."""
        study = await self._catalogue.study(request.arguments["study"])
        return self._layout.page(
            request,
            "publish.html",
            section="studies",
            study=study,
            publications=await self._publications.of_study(request),
        )

    async def ask(self, request: Request) -> Response:
        """The handler of its forms."""
        fields = await read_fields(request)
        job_id, _ = await self._publications.ask(
            request, fields.get("repository", ""), is_withdrawn="withdraw" in fields
        )
        may_look = "state" in what_may(request.caller)
        return to(
            f"/jobs/{job_id}" if may_look else f"/studies/{request.arguments['study']}/publish"
        )
