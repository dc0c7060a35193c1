"""Modality worklist over the web (PS3.18 14).

The parameters become an identifier of the worklist information model, so that both are matched and
answered in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.errors import OperationError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Payload, Route, ok
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND, EntryState
from isocenter.services.service_classes.worklist.ports import Worklist, with_state
from isocenter.services.service_classes.worklist.query_keys import (
    SCHEDULED_STEPS,
    Keys,
    parse_keys,
)
from isocenter.services.service_classes.worklist.scu import RETURN_KEYS
from isocenter.services.web.dicomweb.data_sets import (
    MANY,
    MEDIA_TYPES,
    data_sets_response,
)
from isocenter.services.web.dicomweb.representations import accepts_gzip, choose
from isocenter.services.web.dicomweb.search.parameters import (
    SEARCH_PARAMETERS,
    Path,
    SearchParameters,
    joined_values,
    parse_parameters,
    path_name,
    warning_headers,
)
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls

PATH: Final = "/modality-scheduled-procedure-steps"
#: What servers had before the standard had a path.
OLD_PATH: Final = "/mwlitems"
_SERVICE: Final = "Modality scheduled procedure step: worklist (PS3.18 14)"
#: Answers that are written at once; more take so long that others would have to wait.
_FEW: Final = 16
_CHARACTER_SET: Final = 0x00080005


class WebWorklist:
    """Answers searches from a worklist.

    Args:
        states: of the entries that are offered, unless a search asks for Scheduled Procedure Step
            Status (0040,0020).
        limits: on the matches of one answer, and its status without one.
    """

    def __init__(
        self,
        worklist: Worklist,
        urls: PublicUrls,
        *,
        states: Sequence[EntryState],
        limits: SearchLimits,
        engine_limits: Limits,
    ) -> None:
        self._worklist = worklist
        self._urls = urls
        self._states = tuple(states)
        self._limits = limits
        self._engine_limits = engine_limits

    async def __call__(self, request: Request) -> Response:
        """The handler of a search (14.4)."""
        form, _ = choose(request, MANY)
        said = parse_parameters(request.query)
        limit = said.bounded(self._limits.default, self._limits.most)
        keys = self._understood(said)
        states = tuple(EntryState) if keys.asks_for_status else self._states
        found: list[AttributeList] = []
        skipped = 0
        async with self._worklist.find(keys, states) as blocks:
            async for block in blocks:
                passed = min(said.offset - skipped, len(block))
                skipped += passed
                found += map(with_state, block[passed:])
                if len(found) > limit:
                    break
        answers = found[:limit]
        request.told |= {"information_model": MODALITY_WORKLIST_FIND, "matches": len(answers)}
        warnings = _unmatched(keys)
        headers = [("cache-control", "no-cache"), ("vary", "Accept, Accept-Encoding")]
        headers += warning_headers(self._urls.base(request), warnings, is_cut=len(found) > limit)
        if not answers and self._limits.empty_status == 204:
            return Response(status=204, headers=headers)
        may_gzip = accepts_gzip(request)

        def written() -> Response:
            shown = answers if said.includes_all else [keys.response(one) for one in answers]
            return data_sets_response(form, shown, headers=headers, may_gzip=may_gzip)

        # Others have their turn meanwhile.
        return await trio.to_thread.run_sync(written) if len(answers) > _FEW else written()

    def _understood(self, said: SearchParameters) -> Keys:
        asked: dict[str, str] = dict(RETURN_KEYS)
        for path in said.included:
            asked.setdefault(_key(path), "")
        for path, values in said.matched.items():
            asked[_key(path)] = joined_values(dictionary_vr(path[-1]), values)
        try:
            identifier = build_identifier(asked.items(), None, EXPLICIT_VR_LITTLE_ENDIAN)
            return parse_keys(
                identifier, EXPLICIT_VR_LITTLE_ENDIAN, self._engine_limits, names=said.names
            )
        except KeySyntaxError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from error
        except OperationError as error:
            raise HttpError(400, "BAD_QUERY", error.comment) from error


def _key(path: Path) -> str:
    """As `build_identifier` names it.  What stands in the item of Scheduled Procedure Step Sequence
    and nowhere else may be named without it."""
    if len(path) == 1 and path[0] in _ONLY_IN_STEP:
        path = (SCHEDULED_STEPS, *path)
    *sequences, last = map(tag_text, path)
    return "".join(f"{sequence}[0]." for sequence in sequences) + last


def _top(key: str) -> tuple[str, str]:
    first, _, rest = key.partition("[0].")
    return first, rest


def _only_in_step() -> frozenset[int]:
    tops = {_top(key)[0] for key, _ in RETURN_KEYS}
    within = {
        _top(rest)[0]
        for first, rest in (_top(key) for key, _ in RETURN_KEYS)
        if first == tag_text(SCHEDULED_STEPS)
    }
    return frozenset(int(tag.strip("()").replace(",", ""), 16) for tag in within - tops)


_ONLY_IN_STEP: Final = _only_in_step()


def _unmatched(keys: Keys) -> list[str]:
    names = [path_name((tag,)) for tag in keys.unsupported if tag != _CHARACTER_SET]
    return [f"not matched: {', '.join(names[:8])}"] if names else []


def worklist_routes(worklist: WebWorklist) -> Sequence[Route[Handler]]:
    """The routes of the worklist, below `ROOT`."""
    names: Mapping[str, str] = {PATH: "", OLD_PATH: "Alias"}
    return [
        Route(
            method="GET", path=ROOT + path, handler=worklist, needs="search",
            name=f"SearchForScheduledSteps{suffix}", service=_SERVICE, produces=MEDIA_TYPES,
            text="Search for what is scheduled.", parameters=SEARCH_PARAMETERS,
            answers=(
                ok("The matches, the earliest first. A `Warning` tells what was cut."),
                ok("There is no match (`web.empty_search`).", Payload.NOTHING, 204),
                Answer(400, "The value of a known attribute or parameter is broken."),
                Answer(406, "Neither JSON nor XML is accepted."),
                Answer(503, "The archive cannot do that now."),
            ),
        )
        for path, suffix in names.items()
    ]  # fmt: skip
