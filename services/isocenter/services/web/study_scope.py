"""Scope of a caller who is limited to one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route
from isocenter.services.web.dicomweb.urls import ROOT
from isocenter.services.web.principal import Principal
from isocenter.services.web.viewer.package import PATH

#: Searches, which are narrowed to the study.
_SEARCHES: Final = frozenset({f"{ROOT}/studies", f"{ROOT}/series", f"{ROOT}/instances"})
_STUDY: Final = f"{ROOT}/studies/{{study}}"
_NEEDS: Final = frozenset({"search", "read", "export"})


def is_within(route: Route[Any], arguments: Mapping[str, str], study: str) -> bool:
    """Whether a request of that route reaches nothing beside *study*: what is not known to be so
    is not."""
    if route.method != "GET" or route.needs not in _NEEDS:
        return False
    if route.path == _STUDY or route.path.startswith(f"{_STUDY}/"):
        return arguments.get("study") == study
    return route.path in _SEARCHES or route.path == PATH or route.path.startswith(f"{PATH}/")


def only_study(request: Request) -> str:
    """The one study that the caller is limited to; empty: there is no such limit."""
    caller = request.caller
    return caller.study if isinstance(caller, Principal) else ""


def narrowed(query: Query, request: Request) -> Query:
    """*query*, that finds nothing which the caller of *request* may not see."""
    study = only_study(request)
    if not study:
        return query
    only = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(study))
    return replace(query, criteria=(*query.criteria, only))
