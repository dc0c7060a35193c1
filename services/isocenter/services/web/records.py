"""Records of web requests: notices for audit trail and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from isocenter.services.net.http.application import Answered, Handler
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.notices import RequestAnswered
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import InstancesRead, Notices, QueryAnswered
from isocenter.services.web.principal import Principal, caller_of

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
#: Study Root Query/Retrieve Information Model - FIND.
_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_SUCCESS, _NO_MATCHING_CLASS, _FAILURE, _CANCEL = 0x0000, 0xA900, 0x0110, 0xFE00
_GONE: Final = 499


class RequestRecords:
    """Tells of each request that is over (`RoutedApplication`, *on_answered*).

    What a handler knows of it stands in `Request.told`: ``matches`` and ``level``, of a search, and
    ``information_model`` where that is not of studies (also of one that is read by its UID);
    ``instances``, of a retrieval, each with its `study_instance_uid`, `sop_instance_uid` and
    `sop_class_uid`; ``exported``: it was recorded as an export, which is more.
    """

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def __call__(self, request: Request, route: Route[Handler] | None, answered: Answered) -> None:
        method = answered.method if answered.method in _METHODS else "other"
        self._notices.publish(
            RequestAnswered(
                method=method,
                route=answered.path,
                status=answered.status,
                size=answered.size,
                seconds=answered.seconds,
            )
        )
        if route is None or not isinstance(request.caller, Principal):
            return
        if route.needs == "search" or "information_model" in request.told:
            self._searched(request, answered)
        elif route.needs in ("read", "export") and not request.told.get("exported"):
            self._read(request, answered, is_read=route.needs == "read")

    def _searched(self, request: Request, answered: Answered) -> None:
        if answered.status in (401, 403, 429):
            return  # told as what it is
        self._notices.publish(
            QueryAnswered(
                caller=caller_of(request),
                sop_class_uid=request.told.get("information_model", _FIND),
                transfer_syntax_uid="",
                identifier=request.target,
                matches=request.told.get("matches", 0),
                status=_as_dimse(answered.status),
                level=request.told.get("level", ""),
                seconds=answered.seconds,
            )
        )

    def _read(self, request: Request, answered: Answered, *, is_read: bool) -> None:
        if request.method == "HEAD" or answered.status == 304 or 400 <= answered.status < _GONE:
            return  # nothing was sent
        instances: Any = request.told.get("instances", ())
        by_study: dict[str, list[Any]] = {}
        for one in instances:
            by_study.setdefault(one.study_instance_uid, []).append(one)
        for study, some in by_study.items():
            uids = frozenset(one.sop_instance_uid for one in some)
            self._sent(request, answered, study, uids, Counter(one.sop_class_uid for one in some))
        if is_read and not by_study and "study" in request.arguments:
            # What was made beforehand is sent without a look at each instance.
            uid = request.arguments.get("instance")
            uids = frozenset({uid} if uid else ())
            self._sent(request, answered, request.arguments["study"], uids, {"": len(uids)})

    def _sent(
        self,
        request: Request,
        answered: Answered,
        study: str,
        uids: frozenset[str],
        sop_classes: Mapping[str, int],
    ) -> None:
        self._notices.publish(
            InstancesRead(
                caller=caller_of(request),
                study_instance_uid=study,
                sop_instance_uids=uids,
                sop_classes=sop_classes,
                is_whole=answered.status < _GONE,
            )
        )


def _as_dimse(status: int) -> int:
    """The status of a C-FIND that went the same way."""
    if status < 400:
        return _SUCCESS
    if status == _GONE:
        return _CANCEL
    return _NO_MATCHING_CLASS if status < 500 else _FAILURE
