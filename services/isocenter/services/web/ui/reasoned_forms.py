"""Forms with a reason, and answers that pages of changes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.forms import read_fields

_MOST_REASON: Final = 200


async def read_reasoned(request: Request) -> tuple[Mapping[str, str], str, str]:
    """The fields of a form, its reason, and what is wrong with that; empty: nothing."""
    fields = await read_fields(request)
    reason = fields.get("reason", "").strip()
    if reason and reason.isprintable() and len(reason) <= _MOST_REASON:
        return fields, reason, ""
    fault = f"say why, in at most {_MOST_REASON} characters: it stands in the audit trail"
    return fields, reason[:_MOST_REASON], fault


def study_query(request: Request) -> Query:
    """The study that the path of a page names."""
    criterion = Criterion(UNIQUE_KEY[Level.STUDY], SingleValue(request.arguments["study"]))
    return Query(level=Level.STUDY, criteria=(criterion,))


def to(path: str) -> Response:
    """Go on at another page."""
    return Response(status=303, headers=[("location", path)])


def unavailable() -> HttpError:
    """The archive fails."""
    return HttpError(503, "UNAVAILABLE", "the archive cannot do that now", [("retry-after", "60")])
