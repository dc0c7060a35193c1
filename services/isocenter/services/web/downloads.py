"""Downloads of studies and series as a ZIP file (PS3.18 8.6.1.3).

What can be told before the first byte is: that nothing is there, that it is too much, that others
are served.  What fails later cuts the connection, and the ZIP file then has no directory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.deletion.values import NotPermittedError, Requester
from isocenter.services.archive.export.service import Exporter
from isocenter.services.archive.export.zip_export import ZipExport
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, ValueList
from isocenter.services.archive.selection import Selection
from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.notices import HttpLimitReached
from isocenter.services.net.http.routing import Answer, Parameter, ok
from isocenter.services.notices import AccessDenied, Notices
from isocenter.services.web.principal import caller_key, caller_name, caller_of, what_may
from isocenter.services.web.study_reading import begin_reading

log = logging.getLogger("isocenter.http")

ZIP: Final = "application/zip"
DOWNLOAD_PARAMETERS: Final = (
    Parameter(name="study", text="Study Instance UID; once for each study.", is_required=True),
    Parameter(name="series", text="Series Instance UID of the one study; once for each."),
    Parameter(
        name="dicomdir", text="1: a DICOMDIR, and names of files that media may have (PS3.10 8)."
    ),
)
DOWNLOADED: Final = (
    ok("The ZIP file; what could not be read stands in `LEFTOUT.TXT`."),
    Answer(400, "No study is named, or too many are."),
    Answer(404, "Something that is named is not there."),
    Answer(413, "It is more than `web.max_download`."),
    Answer(429, "The caller has as many downloads under way as `web.max_downloads_per_caller`."),
    Answer(503, "All have as many under way as `web.max_downloads`, or nothing can be recorded."),
)
#: Studies or series of one selection.
_MOST_NAMED: Final = 200
_WAIT_SECONDS: Final = "30"


class DownloadSlots:
    """Counts the downloads that are under way.

    Args:
        most: of all callers.
        most_per_caller: of one.
    """

    def __init__(self, most: int, most_per_caller: int) -> None:
        self._most = most
        self._most_per_caller = most_per_caller
        self._under_way: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """Downloads now."""
        return self._under_way.total()

    def take(self, caller: str) -> Callable[[], None]:
        """One more of *caller*; what gives it back, which may be called more than once.

        Raises:
            HttpError: there are as many as may be (429 of this caller, 503 of all).
        """
        retry = [("retry-after", _WAIT_SECONDS)]
        if self._under_way[caller] >= self._most_per_caller:
            raise HttpError(
                429,
                "TOO_MANY_DOWNLOADS",
                f"{self._most_per_caller} downloads at once are allowed; wait for one to end",
                retry,
            )
        if self._under_way.total() >= self._most:
            raise HttpError(
                503, "BUSY", "others download as much as this archive gives; try again", retry
            )
        self._under_way[caller] += 1
        taken = [caller]

        def give_back() -> None:
            while taken:
                self._under_way[taken.pop()] -= 1
                self._under_way += Counter()  # forgets who has none

        return give_back


class Downloads:
    """Answers with ZIP files.

    Args:
        notices: told of who may not, and that a bound was reached.
        most_bytes: of one download.
    """

    def __init__(
        self,
        exporter: Exporter,
        notices: Notices,
        slots: DownloadSlots,
        *,
        most_bytes: int,
    ) -> None:
        self._exporter = exporter
        self._notices = notices
        self._slots = slots
        self._most_bytes = most_bytes

    async def __call__(self, request: Request) -> Response:
        """The handler of a selection: ``study`` of the query, once for each, or one ``study`` and
        some ``series`` of it; with ``dicomdir`` also a DICOMDIR."""
        studies, series = _named(request, "study"), _named(request, "series")
        if not studies or (series and len(studies) > 1):
            raise HttpError(400, "BAD_QUERY", "name studies, or one study and series of it")
        if len(studies) + len(series) > _MOST_NAMED:
            raise HttpError(400, "BAD_QUERY", f"name {_MOST_NAMED} at most")
        criteria = [Criterion(UNIQUE_KEY[Level.STUDY], ValueList(studies))]
        if series:
            criteria.append(Criterion(UNIQUE_KEY[Level.SERIES], ValueList(series)))
        query = Query(level=Level.SERIES if series else Level.STUDY, criteria=tuple(criteria))
        named = series or studies
        what = "series" if series else "studies"
        name = named[0] if len(named) == 1 else f"{len(named)}-{what}"
        wants = (request.parameter("dicomdir") or "") not in ("", "0", "no")
        return await self.respond(request, query, name=name, has_directory=wants, named=named)

    async def respond(
        self,
        request: Request,
        query: Query,
        *,
        name: str,
        has_directory: bool = False,
        named: Sequence[str] = (),
    ) -> Response:
        """A ZIP file of all that *query* finds.

        Args:
            name: of the file, without its suffix.
            named: studies, or series, all of which have to be there.

        Raises:
            HttpError: the caller may not (403), there is nothing (404), it is too much (413), or
                not now (429, 503).
        """
        self._check_allowed(request)
        selection = await self._selected(query)
        _check_there(selection, named)
        headers = [
            ("content-type", ZIP),
            ("content-disposition", f'attachment; filename="{_file_name(name)}.zip"'),
            ("cache-control", "private, no-store"),
            ("vary", "Accept"),
        ]
        if request.method == "HEAD":
            return Response(headers=headers)
        give_back = self._take(request)
        try:
            archive = self._exporter.archive
            studies = {study[0].study_instance_uid for study in selection.studies}
            give_back = _both(give_back, await begin_reading(archive, studies, request))
            caller = caller_of(request)
            export = ZipExport(
                self._exporter,
                selection,
                Requester(name=caller_name(caller)),
                place=f"download:{request.host}",
                access_point=request.host,
                has_directory=has_directory,
            )
            body = await export.begin()
        except BaseException as error:
            give_back()
            if isinstance(error, NotPermittedError):
                raise HttpError(403, "NOT_ALLOWED", str(error)) from error
            if isinstance(error, IsocenterError) and not isinstance(error, StorageError):
                log.error("a download cannot begin: %s", error)
                raise HttpError(503, "UNAVAILABLE", "nothing can be downloaded now") from error
            raise
        request.told["exported"] = True
        return Response(headers=headers, body=body, close=give_back)

    def _check_allowed(self, request: Request) -> None:
        """A route that gives it in other forms, too, asks for less."""
        if "export" in what_may(request.caller) or request.caller is None:
            return
        why = "it lacks study:export"
        self._notices.publish(
            AccessDenied(caller=caller_of(request), command="download", sop_class_uid="", why=why)
        )
        raise HttpError(403, "NOT_ALLOWED", "the policy does not give study:export")

    async def _selected(self, query: Query) -> Selection:
        selection = await self._exporter.select(query)
        if not selection.instances:
            raise HttpError(404, "NOT_FOUND", "the archive has nothing of that")
        if selection.size > self._most_bytes:
            raise HttpError(
                413,
                "TOO_LARGE",
                f"that is {selection.size:,} bytes, and a download has {self._most_bytes:,} at "
                "most; take fewer studies, or see web.max_download",
            )
        return selection

    def _take(self, request: Request) -> Callable[[], None]:
        try:
            return self._slots.take(caller_key(request))
        except HttpError:
            self._notices.publish(HttpLimitReached("downloads"))
            raise


def _both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        one()
        other()

    return both


def _check_there(selection: Selection, named: Sequence[str]) -> None:
    """Who chose something that has gone meanwhile does not take the rest for all of it."""
    found = {
        uid
        for study in selection.studies
        for one in study
        for uid in (one.study_instance_uid, one.series_instance_uid)
    }
    gone = sum(uid not in found for uid in named)
    if gone:
        raise HttpError(
            404, "NOT_FOUND", f"{gone} of {len(named)} are not there any more; choose again"
        )


def _named(request: Request, name: str) -> tuple[str, ...]:
    found: Sequence[str] = [value.strip() for given, value in request.query if given == name]
    return tuple(dict.fromkeys(value for value in found if value))


def _file_name(name: str) -> str:
    """A name that no header and no file system minds: no patient's, as it stays in the list of
    downloads of a browser."""
    return name if is_safe_uid(name) or name.replace("-", "").isalnum() else "study"
