"""Download of a study, series or instance into files: resumes where it was cut."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.web.client.models import Model, value_of
from isocenter.services.web.client.object_files import DownloadFolder
from isocenter.services.web.client.parts import AnswerParts
from isocenter.services.web.client.resources import WebResource

log = logging.getLogger("isocenter.client")

_SERIES_UID: Final = f"{UNIQUE_KEY[Level.SERIES]:08X}"
_INSTANCE_UID: Final = f"{UNIQUE_KEY[Level.IMAGE]:08X}"
_SOP_CLASS_UID: Final = "00080016"
#: Instances that are asked for one by one at the same time.
_AT_ONCE: Final = 4
#: Answers that break off before it is given up.
_MOST_CUTS: Final = 3

Retrieve = Callable[[WebResource], AbstractAsyncContextManager[AnswerParts]]
#: The instances that a resource has: answers of a search.
ListInstances = Callable[[WebResource], Awaitable[Sequence[Model]]]


@dataclass(slots=True)
class Downloaded:
    """What a download came to, beside the files.

    Attributes:
        missing: SOP Instance UIDs that the server has in its lists, and did not give.
        warnings: what the server said.
        is_partial: the server says that some of it is missing (206).
        cuts: answers that broke off.
    """

    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_partial: bool = False
    cuts: int = 0


class Download:
    """One resource into files.

    Args:
        retrieve: asks for objects.
        list_instances: says which there are.
    """

    def __init__(
        self, retrieve: Retrieve, list_instances: ListInstances, files: DownloadFolder
    ) -> None:
        self._retrieve = retrieve
        self._list = list_instances
        self._files = files
        self._result = Downloaded()

    async def run(self, resource: WebResource, *, skip_existing: bool = False) -> Downloaded:
        """Fetch it.

        An answer that breaks off is not begun again: what has not come is asked for by instance.

        Args:
            skip_existing: ask for nothing that has a file already.

        Raises:
            HttpClientError: it cannot be had.
            OSError: files cannot be written.
        """
        if skip_existing:
            wanted = await self._not_there(resource)
            if wanted is not None:
                return await self._each(wanted)
        try:
            await self._fetch(resource)
        except BrokenAnswerError as error:
            self._result.cuts += 1
            if not self._files.came and resource.level is Level.IMAGE:
                raise
            log.info("the answer broke off; what has not come is asked for by instance: %s", error)
            await self._each(await self._not_come(resource))
        return self._result

    async def _fetch(self, resource: WebResource) -> None:
        async with self._retrieve(resource) as parts:
            result = self._result
            result.is_partial = result.is_partial or parts.status == 206
            result.warnings = (*result.warnings, *parts.warnings)
            async for part in parts:
                await self._files.take(part)

    async def _not_there(self, resource: WebResource) -> list[WebResource] | None:
        """The instances that have no file; None: none has one, and all can be asked for at once."""
        found = await self._list(resource)
        wanted = []
        for model in found:
            one = _instance_of(resource, model)
            if one is not None and not self._files.has(
                study=one.study,
                series=one.series,
                instance=one.instance,
                sop_class=value_of(model, _SOP_CLASS_UID),
            ):
                wanted.append(one)
        return wanted if len(wanted) < len(found) else None

    async def _not_come(self, resource: WebResource) -> list[WebResource]:
        instances = [_instance_of(resource, model) for model in await self._list(resource)]
        came = self._files.came
        return [one for one in instances if one is not None and one.instance not in came]

    async def _each(self, wanted: Sequence[WebResource]) -> Downloaded:
        """Ask for instances one by one."""
        todo = iter(wanted)
        gone: list[str] = []
        fault: list[Exception] = []

        async def work() -> None:
            for one in todo:
                if fault:
                    return
                try:
                    await self._instance(one)
                except HttpStatusError as error:
                    if error.status not in (404, 410):
                        fault.append(error)
                        return
                    gone.append(one.instance)
                except Exception as error:  # the nursery would wrap it
                    fault.append(error)
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(min(_AT_ONCE, len(wanted))):
                nursery.start_soon(work)
        if fault:
            raise fault[0]
        self._result.missing = (*self._result.missing, *gone)
        return self._result

    async def _instance(self, resource: WebResource) -> None:
        while True:
            try:
                await self._fetch(resource)
                return
            except BrokenAnswerError:
                self._result.cuts += 1
                if self._result.cuts >= _MOST_CUTS:
                    raise


def _instance_of(resource: WebResource, model: Model) -> WebResource | None:
    try:
        return resource.instance_of(value_of(model, _SERIES_UID), value_of(model, _INSTANCE_UID))
    except ValueError:
        return None  # it cannot be asked for
