"""Handlers of workitems over the web (PS3.18 11.4 to 11.9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.dicom.data_dictionary import dictionary_vr, tag_for_keyword
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import OperationError
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.notices import Caller
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.ups.manager import WorkitemManager
from isocenter.services.service_classes.ups.query import WorkitemKeys, parse_workitem_keys
from isocenter.services.service_classes.ups.workitem import (
    SOP_INSTANCE_UID,
    TRANSACTION_UID,
    UPS_QUERY,
    element,
    with_elements,
)
from isocenter.services.web.dicomweb.data_sets import (
    MANY,
    ONE,
    data_set_response,
    data_sets_response,
    read_data_set,
)
from isocenter.services.web.dicomweb.representations import accepts_gzip, choose
from isocenter.services.web.dicomweb.search.parameters import (
    SearchParameters,
    joined_values,
    parse_parameters,
    path_name,
    warning_headers,
)
from isocenter.services.web.dicomweb.search.qido_rs import SearchLimits
from isocenter.services.web.dicomweb.ups.refusals import refusal, warnings_of
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.principal import caller_name

WORKITEMS: Final = "/workitems"
WORKITEM: Final = "/workitems/{workitem}"
#: How clients spell the UIDs beside the path: it changed with editions, and some say the UID alone.
_WORKITEM_NAMES: Final = frozenset(
    ("workitem", "workitem-uid", "workitemuid", "affectedsopinstanceuid")
)
_TRANSACTION_NAMES: Final = frozenset(("transaction", "transaction-uid", "transactionuid"))
#: What a match shows (PS3.18 Table 11.9.3-1, the required ones of PS3.4 Table CC.2.5-3).
_RETURN_KEYS: Final = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID",
    "ScheduledProcedureStepPriority", "ScheduledProcedureStepModificationDateTime",
    "ProcedureStepLabel", "WorklistLabel", "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence", "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledProcedureStepStartDateTime", "ExpectedCompletionDateTime",
    "ScheduledWorkitemCodeSequence", "InputReadinessState", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "AdmissionID", "IssuerOfPatientID",
    "ReferencedRequestSequence", "StudyInstanceUID", "ProcedureStepState",
    "ProcedureStepProgressInformationSequence",
)  # fmt: skip
_RETURN_TAGS: Final = tuple(
    tag for tag in map(tag_for_keyword, _RETURN_KEYS) if tag is not None and tag != 0x00080005
)
#: Answers that are written at once; more take so long that others would have to wait.
_FEW: Final = 16
#: Of an AE title.
_AE_LENGTH: Final = 16


class WebWorkitems:
    """Does by HTTP what is done over DIMSE.

    Args:
        manager: knows the rules, which are those of N-CREATE, N-SET and N-ACTION.
        search_limits: on the matches of one answer, and its status without one.
    """

    def __init__(
        self,
        manager: WorkitemManager,
        urls: PublicUrls,
        limits: Limits,
        *,
        search_limits: SearchLimits,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._manager = manager
        self._urls = urls
        self._limits = limits
        self._search_limits = search_limits
        self._caller_of = caller_of

    async def create(self, request: Request) -> Response:
        """The handler of creation (11.4)."""
        attributes = await read_data_set(request, self._limits)
        uid = said_uid(request, _WORKITEM_NAMES) or attributes.text(SOP_INSTANCE_UID) or new_uid()
        _check_uid(uid)
        try:
            status = await self._manager.create(
                uid, attributes, limits=self._limits, caller=self._caller_of(request)
            )
        except OperationError as error:
            raise refusal(error) from error
        base = self._urls.base(request)
        here = f"{base}{WORKITEMS}/{uid}"
        headers = [("location", here), ("content-location", here), ("cache-control", "no-store")]
        headers += warning_headers(base, warnings_of(status), is_cut=False)
        return Response(status=201, headers=headers)

    async def retrieve(self, request: Request) -> Response:
        """The handler of retrieval (11.5); without the Transaction UID, whoever asks."""
        form, _ = choose(request, ONE)
        request.told |= {"information_model": UPS_QUERY, "matches": 0}
        workitem = await self._manager.get(request.arguments["workitem"])
        if workitem is None:
            raise HttpError(404, "NOT_FOUND", "there is no such workitem")
        request.told["matches"] = 1
        base = self._urls.base(request)
        headers = [
            ("cache-control", "no-cache"),
            ("vary", "Accept"),
            ("content-location", f"{base}{WORKITEMS}/{workitem.sop_instance_uid}"),
        ]
        return data_set_response(form, workitem.attributes, headers=headers)

    async def update(self, request: Request) -> Response:
        """The handler of change (11.6)."""
        changes = await read_data_set(request, self._limits)
        return await self._done(
            request,
            lambda uid: self._manager.change(
                uid,
                _with_transaction(request, changes),
                limits=self._limits,
                caller=self._caller_of(request),
            ),
        )

    async def change_state(self, request: Request) -> Response:
        """The handler of change of the state (11.7)."""
        information = await read_data_set(request, self._limits)
        return await self._done(
            request,
            lambda uid: self._manager.change_state(
                uid, _with_transaction(request, information), caller=self._caller_of(request)
            ),
        )

    async def request_cancel(self, request: Request) -> Response:
        """The handler of a request to cancel (11.8), which may say nothing."""
        information = AttributeList({})
        if request.header("content-type"):
            information = await read_data_set(request, self._limits)
        caller = self._caller_of(request)
        name = caller_name(caller)[:_AE_LENGTH]
        return await self._done(
            request,
            lambda uid: self._manager.request_cancel(
                uid, information, requester=name, caller=caller
            ),
            status=202,
        )

    async def search(self, request: Request) -> Response:
        """The handler of a search (11.9)."""
        form, _ = choose(request, MANY)
        said = parse_parameters(request.query)
        limit = said.bounded(self._search_limits.default, self._search_limits.most)
        keys = self._understood(said)
        found: list[AttributeList] = []
        skipped = 0
        async with self._manager.find(keys) as blocks:
            async for block in blocks:
                passed = min(said.offset - skipped, len(block))
                skipped += passed
                found += [workitem.attributes for workitem in block[passed:]]
                if len(found) > limit:
                    break
        answers = found[:limit]
        request.told |= {"information_model": UPS_QUERY, "matches": len(answers)}
        names = [path_name((tag,)) for tag in keys.unsupported]
        unmatched = [f"not matched: {', '.join(names[:8])}"] if names else []
        headers = [("cache-control", "no-cache"), ("vary", "Accept, Accept-Encoding")]
        headers += warning_headers(self._urls.base(request), unmatched, is_cut=len(found) > limit)
        if not answers and self._search_limits.empty_status == 204:
            return Response(status=204, headers=headers)
        may_gzip = accepts_gzip(request)

        def written() -> Response:
            shown = answers if said.includes_all else [keys.response(one) for one in answers]
            return data_sets_response(form, shown, headers=headers, may_gzip=may_gzip)

        return await trio.to_thread.run_sync(written) if len(answers) > _FEW else written()

    def _understood(self, said: SearchParameters) -> WorkitemKeys:
        asked = {tag_text(tag): "" for tag in _RETURN_TAGS}
        for path in said.included:
            asked.setdefault(key_of(path), "")
        for path, values in said.matched.items():
            asked[key_of(path)] = joined_values(dictionary_vr(path[-1]), values)
        try:
            identifier = build_identifier(asked.items(), None, EXPLICIT_VR_LITTLE_ENDIAN)
            return parse_workitem_keys(
                identifier, EXPLICIT_VR_LITTLE_ENDIAN, self._limits, names=said.names
            )
        except KeySyntaxError as error:
            raise HttpError(400, "BAD_QUERY", str(error)) from error
        except OperationError as error:
            raise HttpError(400, "BAD_QUERY", error.comment) from error

    async def _done(
        self, request: Request, act: Callable[[str], Awaitable[int]], *, status: int = 200
    ) -> Response:
        uid = request.arguments["workitem"]
        _check_uid(uid)
        try:
            found = await act(uid)
        except OperationError as error:
            raise refusal(error) from error
        base = self._urls.base(request)
        headers = [
            ("cache-control", "no-store"),
            ("content-location", f"{base}{WORKITEMS}/{uid}"),
            *warning_headers(base, warnings_of(found), is_cut=False),
        ]
        return Response(status=status, headers=headers)


def said_uid(request: Request, names: frozenset[str]) -> str:
    """The UID that the query says, by one of its names or alone; empty: none."""
    for name, value in request.query:
        if name.lower() in names and value:
            return value
    return next((name for name, value in request.query if not value and is_safe_uid(name)), "")


def _with_transaction(request: Request, attributes: AttributeList) -> AttributeList:
    """*attributes* with the Transaction UID of the query, where they have none."""
    said = said_uid(request, _TRANSACTION_NAMES)
    if not said or attributes.text(TRANSACTION_UID):
        return attributes
    return with_elements(attributes, [element(TRANSACTION_UID, "UI", said)])


def _check_uid(uid: str) -> None:
    if not is_safe_uid(uid):
        raise HttpError(400, "BAD_UID", "a workitem is named by a SOP Instance UID")


def key_of(path: tuple[int, ...]) -> str:
    """As `build_identifier` names it."""
    *sequences, last = map(tag_text, path)
    return "".join(f"{sequence}[0]." for sequence in sequences) + last
