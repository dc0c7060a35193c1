"""Pages of studies that others have shared: a search, and one manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from isocenter.services.integration.sharing.ports import SharedDocument
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields
from isocenter.services.web.principal import what_may
from isocenter.services.web.studies_elsewhere import DocumentQuery, ShownManifest, StudiesElsewhere
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to

_PATH: Final = "/elsewhere"
#: What the repository, or who asks, is to blame for: it is shown on the page.
_SHOWN: Final = frozenset({400, 404, 409, 502})


class ElsewherePages:
    """Answers with what others have shared, and has it retrieved.

    Patient IDs are sent in bodies of forms, and stand in no address.
    """

    def __init__(self, elsewhere: StudiesElsewhere, layout: Layout) -> None:
        self._elsewhere = elsewhere
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page(_PATH, "search", self.show, "The form that asks for studies elsewhere.")
        yield action(_PATH, "search", self.find, "Studies of a patient elsewhere.")
        yield action(f"{_PATH}/manifest", "search", self.manifest, "What a manifest names.")
        yield action(f"{_PATH}/fetch", "write", self.fetch, "Retrieve the study of a manifest.")

    async def show(self, request: Request) -> Response:
        """The handler of the page."""
        return self._page(request, {})

    async def find(self, request: Request) -> Response:
        """The handler of the form that asks."""
        said = await read_fields(request)
        try:
            found = await self._elsewhere.find(request, _wanted(said))
            uids = {one.study_instance_uid for one in found}
            here = await self._elsewhere.instances_here(uids)
        except HttpError as error:
            return self._page(request, said, fault=_told(error))
        return self._page(request, said, documents=found, here=here)

    async def manifest(self, request: Request) -> Response:
        """The handler of the button that shows a manifest."""
        said = await read_fields(request)
        try:
            shown = await self._elsewhere.show(request, _wanted(said))
            here = await self._elsewhere.instances_here((shown.manifest.study_instance_uid,))
        except HttpError as error:
            return self._page(request, said, fault=_told(error))
        return self._page(request, said, shown=shown, here=here)

    async def fetch(self, request: Request) -> Response:
        """The handler of the button that has a study here."""
        said = await read_fields(request)
        try:
            job_id, _ = await self._elsewhere.fetch(request, _wanted(said))
        except HttpError as error:
            return self._page(request, said, fault=_told(error))
        if "state" in what_may(request.caller):
            return to(f"/jobs/{job_id}")
        return self._page(request, said, job=job_id)

    def _page(
        self,
        request: Request,
        said: Mapping[str, str],
        *,
        documents: Sequence[SharedDocument] | None = None,
        shown: ShownManifest | None = None,
        here: Mapping[str, int] | None = None,
        fault: str = "",
        job: str = "",
    ) -> Response:
        return self._layout.page(
            request,
            "elsewhere.html",
            section="elsewhere",
            repositories=tuple(self._elsewhere.repositories),
            wanted=_wanted(said),
            documents=documents,
            shown=shown,
            here=here or {},
            fault=fault,
            job=job,
        )


def _wanted(said: Mapping[str, str]) -> DocumentQuery:
    return DocumentQuery(
        repository=said.get("repository", ""),
        patient_id=said.get("patient_id", "").strip(),
        issuer=said.get("issuer", "").strip(),
        document=said.get("document", ""),
    )


def _told(error: HttpError) -> str:
    """What stands on the page.

    Raises:
        HttpError: it is no matter of the repository.
    """
    if error.status not in _SHOWN:
        raise error
    return str(error)
