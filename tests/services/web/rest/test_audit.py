"""The audit trail in the API: filters, pages, one record, files; and that reading is told."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from isocenter.services.security.audit.trail_reader import TrailRead
from services.security.audit.trails import entry, trail
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

LOGS = "/audit/logs"


def message(user: str, study: str = "1.2.3") -> str:
    return (
        f'<AuditMessage><ActiveParticipant UserID="{user}"/><ParticipantObjectIdentification '
        f'ParticipantObjectID="{study}" ParticipantObjectTypeCodeRole="3"/></AuditMessage>'
    )


@pytest.fixture
def filled(site: Site) -> Site:
    made = [
        replace(
            entry(),
            time=f"2026-11-{day:02}T10:00:00+00:00",
            event="Query" if day % 2 else "=Security Alert",
            outcome="0" if day % 3 else "4",
            ae_titles=(f"CT{day}",),
            message=message(f"user{day}", f"1.2.{day}"),
        )
        for day in range(1, 13)
    ]
    trail(site.file.folder / "audit", rotate_bytes=2_000).append(made)
    return site


async def numbers(site: Site, query: str) -> list[int]:
    answer = await ask(site, "GET", f"{LOGS}?{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def test_records_are_read_page_by_page_the_last_first(filled: Site) -> None:
    seen, path = [], f"{LOGS}?limit=5"
    while path:
        page = (await ask(filled, "GET", path)).json()
        seen += [one["id"] for one in page["data"]]
        after = page["pagination"]["next"]
        path = f"{LOGS}?limit=5&after={after}" if after else ""
    assert seen == list(range(12, 0, -1))
    assert await numbers(filled, "limit=3&offset=4") == [8, 7, 6]
    told = [one for one in filled.told if isinstance(one, TrailRead)]
    assert len(told) == 4
    assert told[0].caller.certificate == "program"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("event_type=query", [11, 9, 7, 5, 3, 1]),
        ("outcome=4", [12, 9, 6, 3]),
        ("outcome=4&event_type=query", [9, 3]),
        ("user_id=user7", [7]),
        ("source_ae=CT2", [2]),
        ("study_uid=1.2.5", [5]),
        ("date_from=2026-11-11", [12, 11]),
        ("date_to=2026-11-02", [2, 1]),
        ("date_from=2026-11-03T10:00:00Z&date_to=2026-11-04T10:00:00", [3]),
        ("patient_id=nobody", []),
    ],
)
async def test_records_are_filtered(filled: Site, query: str, found: list[int]) -> None:
    assert await numbers(filled, query) == found
    exported = (await ask(filled, "GET", f"/audit/export?{query}")).json()
    assert [one["id"] for one in exported] == found[::-1]


async def test_one_record_is_shown_with_its_message(filled: Site) -> None:
    shown = (await ask(filled, "GET", f"{LOGS}/7")).json()
    assert (shown["record"]["id"], shown["record"]["participants"]) == (7, ["user7"])
    assert shown["message"] == message("user7", "1.2.7")
    for number in ("13", "0", "x", "9" * 30, "-1"):
        assert (await refused(filled, "GET", f"{LOGS}/{number}"))[0] == 404


async def test_records_are_taken_away_as_a_file(filled: Site) -> None:
    for path, count in ((f"{LOGS}?format=csv&limit=3", 3), ("/audit/export?format=csv", 12)):
        answer = await ask(filled, "GET", path)
        assert answer.headers["content-type"].startswith("text/csv")
        assert 'filename="audit_logs.csv"' in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert len(rows) == count
        # No spreadsheet computes what somebody has sent.
        assert {row["event"] for row in rows} == {"Query", "'=Security Alert"}


@pytest.mark.parametrize(
    "query",
    ["date_from=tomorrow", "date_to=2026-13-01", "outcome=5", "format=xml", "after=WyJhIl0"],
)
async def test_a_filter_that_cannot_be_is_told(filled: Site, query: str) -> None:
    assert await refused(filled, "GET", f"{LOGS}?{query}") == (400, "INVALID_REQUEST")
    assert not [one for one in filled.told if isinstance(one, TrailRead)]
