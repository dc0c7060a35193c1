"""Reading of studies over HTTP, which nobody changes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.net.http.messages import HttpError, Request
from isocenter.services.web.principal import caller_name, caller_of

_AGAIN_SECONDS: Final = "5"


async def begin_reading(
    archive: ReadableArchive, studies: Collection[str], request: Request
) -> Callable[[], None]:
    """From now on nobody changes the studies, until what is returned is called.

    Raises:
        HttpError: somebody changes one of them (503).
        StorageError: nobody can tell.
    """
    caller = caller_of(request)
    try:
        return await archive.locks.begin(studies, f"HTTP request of {caller_name(caller)}")
    except StudyLockedError as error:
        raise HttpError(
            503,
            "STUDY_LOCKED",
            "the study is being changed; ask again",
            [("retry-after", _AGAIN_SECONDS)],
        ) from error
