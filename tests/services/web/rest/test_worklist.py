"""The worklist in the API: entries found, added, changed, removed; and that it is told."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.notices import OrderAction, OrderChanged
from isocenter.services.service_classes.worklist.order_fields import entry_fields
from services.service_classes.worklist.samples import entry, order
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

LIST = "/worklist"


def actions(site: Site) -> list[OrderAction]:
    return [one.action for one in site.told if isinstance(one, OrderChanged)]


async def steps(site: Site, query: str = "") -> list[str]:
    answer = await ask(site, "GET", f"{LIST}?{query}")
    assert answer.status_code == 200, answer.text
    return [one["step_id"] for one in answer.json()["data"]]


async def test_an_entry_is_added_changed_and_removed(site: Site) -> None:
    body = {**order(), "attributes": {"PatientWeight": "70"}}
    answer = await ask(site, "POST", LIST, body)
    assert answer.status_code == 201
    shown = answer.json()
    assert {name: shown[name] for name in order()} == order()
    assert (shown["patient_weight"], shown["step_status"]) == ("70", "SCHEDULED")
    assert shown["source"] == "web"
    path = answer.headers["location"].removeprefix("/api/v1")
    assert path == f"{LIST}/{shown['pk']}"
    assert await refused(site, "POST", LIST, order()) == (409, "CONFLICT")
    answer = await ask(site, "GET", path)
    assert answer.json() == shown
    seen = answer.headers["etag"]
    change = {"station_ae": "CT_02", "step_status": "STARTED"}
    answer = await ask(site, "PUT", path, change, if_match=seen)
    assert answer.status_code == 200, answer.text
    assert answer.json()["station_ae"] == "CT_02"
    assert answer.json()["step_status"] == "STARTED"
    # What has no field stays.
    assert answer.json()["patient_weight"] == "70"
    assert await refused(site, "PUT", path, change, if_match=seen) == (412, "CHANGED")
    answer = await ask(site, "PUT", path, {"step_status": "COMPLETED"})
    assert answer.json()["step_status"] == "COMPLETED"
    assert (await refused(site, "DELETE", path, if_match=seen))[0] == 412
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert (await refused(site, "DELETE", path))[0] == 404
    added, changed, removed = OrderAction.ADDED, OrderAction.CHANGED, OrderAction.REMOVED
    assert actions(site) == [added, changed, changed, removed]
    told = [one for one in site.told if isinstance(one, OrderChanged)]
    assert told[0].caller.certificate == "program"
    assert told[0].accession_number == "A1"
    assert "PAT1" not in repr(told[0])


async def test_what_others_see_is_what_was_added(site: Site) -> None:
    await ask(site, "POST", LIST, order())
    stored = await site.parts.stores.worklist.get(entry().key)
    assert stored is not None
    assert entry_fields(stored.entry) == entry_fields(entry())


@pytest.fixture
async def filled(site: Site) -> Site:
    await site.parts.stores.worklist.put(
        [
            entry(
                number,
                modality="CT" if number % 2 else "MR",
                patient_name=f"DOE^JANE{number}",
                scheduled_datetime=f"2026112{number // 3}0930{number:02}",
            )
            for number in range(9)
        ],
        source="command",
    )
    return site


async def test_entries_are_read_page_by_page_the_earliest_first(filled: Site) -> None:
    seen, path = [], f"{LIST}?limit=4"
    while path:
        page = (await ask(filled, "GET", path)).json()
        seen += [one["step_id"] for one in page["data"]]
        after = page["pagination"]["next"]
        path = f"{LIST}?limit=4&after={after}" if after else ""
    assert seen == [f"SPS{number}" for number in range(9)]
    assert await steps(filled, "limit=2&offset=3") == ["SPS3", "SPS4"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("modality=mr&scheduled_date_to=2026-11-20", [0, 2]),
        ("scheduled_date_from=2026-11-22", [6, 7, 8]),
        ("scheduled_date_from=2026-11-21&scheduled_date_to=20261121", [3, 4, 5]),
        ("patient_name=jane7", [7]),
        ("patient_id=PAT3", [3]),
        ("accession_no=A5", [5]),
        ("step_id=SPS6", [6]),
        ("station_ae=NONE", []),
        ("step_status=STARTED", []),
    ],
)
async def test_entries_are_found(filled: Site, query: str, found: list[int]) -> None:
    assert await steps(filled, query) == [f"SPS{number}" for number in found]


async def test_what_has_ended_is_shown_on_request(filled: Site) -> None:
    page = (await ask(filled, "GET", f"{LIST}?step_id=SPS1")).json()
    (shown,) = page["data"]
    await ask(filled, "PUT", f"{LIST}/{shown['pk']}", {"step_status": "COMPLETED"})
    assert await steps(filled, "step_id=SPS1") == []
    assert await steps(filled, "step_id=SPS1&include_all_status=true") == ["SPS1"]
    assert await steps(filled, "step_status=COMPLETED") == ["SPS1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_id": None}, "step_id"),
        ({"modality": ""}, "field modality"),
        ({"scheduled_datetime": "soon"}, "no YYYYMMDDHHMMSS"),
        ({"step_status": "LOST"}, "Invalid enum value"),
        ({"sex": "X"}, "field sex"),
        ({"birth_date": "1980-13-01"}, "birth_date"),
        ({"attributes": {"Nonsense": "1"}}, "Nonsense"),
        ({"statoin_ae": "X"}, "did you mean station_ae?"),
        ({"study_uid": "../1"}, "study_uid"),
    ],
)
async def test_an_entry_that_cannot_be_is_told(
    site: Site, change: dict[str, Any], said: str
) -> None:
    answer = await ask(site, "POST", LIST, {**order(), **change})
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert await steps(site, "include_all_status=true") == []


@pytest.mark.parametrize(
    "query",
    ["scheduled_date_from=soon", "step_status=LOST", "after=WzFd"],
)
async def test_a_search_that_cannot_be_is_told(site: Site, query: str) -> None:
    assert (await refused(site, "GET", f"{LIST}?{query}")) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("number", ["0", "7", "x", "-1", "9" * 30])
async def test_no_entry_is_made_up(site: Site, number: str) -> None:
    for method, body in (("GET", None), ("PUT", {"sex": "F"}), ("DELETE", None)):
        assert (await refused(site, method, f"{LIST}/{number}", body))[0] == 404


async def test_two_entries_do_not_become_one(filled: Site) -> None:
    (shown,) = (await ask(filled, "GET", f"{LIST}?step_id=SPS1")).json()["data"]
    change = {"step_id": "SPS2", "accession_no": "A2"}
    status, _ = await refused(filled, "PUT", f"{LIST}/{shown['pk']}", change)
    assert status == 409
    assert await steps(filled, "step_id=SPS1") == ["SPS1"]
