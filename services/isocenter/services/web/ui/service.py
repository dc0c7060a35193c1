"""The routes of the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from isocenter.services.archive.archive import Archive
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.dicomweb.urls import ROOT
from isocenter.services.web.principal import PUBLIC
from isocenter.services.web.sign_in import SignIn, sign_in_path
from isocenter.services.web.ui.assets import Assets
from isocenter.services.web.ui.catalogue import Catalogue
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.sign_in_page import SignInPage
from isocenter.services.web.ui.status_page import ServerState, StatusPage
from isocenter.services.web.ui.study_list import Receiver, StudyList
from isocenter.services.web.ui.study_pages import StudyPages

_HTML = ("text/html",)


class Pages:
    """All pages of an archive.

    Args:
        title: over each of them.
        receiver: where DICOM is sent to, for an empty archive; None: nobody can in the clear.
        state: how the server is.
        sign_in: begins and ends sessions.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        title: str,
        receiver: Receiver | None,
        state: Callable[[], Awaitable[ServerState]],
        sign_in: SignIn,
    ) -> None:
        self._assets = Assets()
        self.layout = Layout(self._assets, title=title)
        catalogue = Catalogue(archive.index)
        self._list = StudyList(catalogue, self.layout, receiver)
        self._study = StudyPages(archive, catalogue, self.layout)
        self._status = StatusPage(state, self.layout)
        self._sign_in = sign_in
        self._signing = SignInPage(sign_in, self.layout)

    def routes(self) -> Sequence[Route[Handler]]:
        """Where they are."""
        study = "/studies/{study}"
        series = f"{study}/series/{{series}}"
        instance = f"{series}/instances/{{instance}}"
        return [
            *self._assets.routes(),
            _page("/", "search", self._list.page, "The list of studies."),
            Route(
                method="GET",
                path="/studies.csv",
                handler=self._list.table,
                text="The list of studies as comma-separated values.",
                needs="search",
                produces=("text/csv",),
            ),
            _page(study, "search", self._study.study, "One study and its series."),
            _page(series, "read", self._study.series, "One series and its images."),
            _page(instance, "read", self._study.instance, "The attributes of an instance."),
            _page("/upload", "write", self._upload, "Upload of files and folders."),
            _page("/sign-in", PUBLIC, self._signing.show, "The form to sign in."),
            _action("/sign-in", PUBLIC, self._signing.begin, "Begin a session."),
            _action("/sign-out", None, self._signing.end, "End the session."),
            _page("/status", "state", self._status, "The state of the server."),
        ]

    def error(self, request: Request, error: HttpError) -> Response:
        """A page that says what is wrong; who is not known gets the form to sign in."""
        if error.status == 401 and request.method == "GET" and self._sign_in.is_secure(request):
            return Response(status=303, headers=[("location", sign_in_path(request))])
        return self.layout.error(request, error)

    async def _upload(self, request: Request) -> Response:
        return self.layout.page(request, "upload.html", section="upload", root=ROOT)


def _action(path: str, needs: str | None, handler: Handler, text: str) -> Route[Handler]:
    return Route(
        method="POST",
        path=path,
        handler=handler,
        text=text,
        needs=needs,
        consumes=("application/x-www-form-urlencoded",),
        produces=_HTML,
    )


def _page(path: str, needs: str, handler: Handler, text: str) -> Route[Handler]:
    return Route(method="GET", path=path, handler=handler, text=text, needs=needs, produces=_HTML)
