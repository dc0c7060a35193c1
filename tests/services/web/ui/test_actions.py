"""What people do on the pages: delete, restore, admit, turn away, send again; and who may."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from isocenter.engine.pdu import Abort
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.orders import Route as ForwardRoute
from isocenter.services.association.server import AssociationEndedByHand
from isocenter.services.security.access.permissions import without
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_changes import PolicyChanged
from isocenter.services.security.access.rejected_callers import RejectedCaller, RejectedFile
from isocenter.services.security.audit.trail_reader import TrailRead
from isocenter.services.web.principal import permissions_for
from isocenter.services.web.ui import audit_page
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Identifier,
    PatientLink,
    ReconciliationKind,
)
from services.archive_support import STUDY, uid
from services.security.audit.trails import entry, trail
from services.service_classes.worklist.samples import entry as planned
from services.web.signed_in import Site
from services.web.ui.people import GIVEN, PLACES, post, text_of
from support.raw import raw_peer
from support.serving import port_of


async def instances(site: Site) -> int:
    return (await site.parts.archive.index.statistics()).instances


# -- Deleting and restoring ---------------------------------------------------------------


async def test_a_study_is_deleted_with_a_reason_and_put_back(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    assert f"/studies/{STUDY}/delete" in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "3 instances" in await text_of(site, cookie, f"/studies/{STUDY}/delete")
    answer = await post(site, cookie, f"/studies/{STUDY}/delete", reason="sent <twice>")
    assert (answer.status_code, answer.headers["location"]) == (303, "/trash")
    assert await instances(site) == 0
    trash = await text_of(site, cookie, "/trash")
    assert "sent &lt;twice&gt;" in trash
    assert "a-radiologist" in trash
    (action,) = re.findall(r'action="(/trash/[0-9a-f]+/restore)"', trash)
    answer = await post(site, cookie, action)
    assert answer.status_code == 303
    assert await instances(site) == 3
    assert (await post(site, cookie, action)).status_code == 404


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines"])
async def test_nothing_is_deleted_without_a_reason(site: Site, reason: str) -> None:
    cookie = await site.cookie("a-radiologist")
    answer = await post(site, cookie, f"/studies/{STUDY}/delete", reason=reason)
    assert answer.status_code == 400
    assert "say why" in answer.text
    assert await instances(site) == 3


async def test_what_is_not_there_is_not_deleted(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    assert (await post(site, cookie, "/studies/1.2.99/delete", reason="x")).status_code == 404
    assert (await post(site, cookie, "/trash/00000000/restore")).status_code == 404


# -- Quarantine ----------------------------------------------------------------------------


async def test_a_study_is_quarantined_looked_at_and_released(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    path = f"/studies/{STUDY}/quarantine"
    assert path in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "3 instances" in await text_of(site, cookie, path)
    assert (await post(site, cookie, path, reason="")).status_code == 400
    answer = await post(site, cookie, path, reason="whose <one>?")
    assert (answer.status_code, answer.headers["location"]) == (303, "/quarantine")
    assert await instances(site) == 0
    assert "whose &lt;one&gt;?" not in await text_of(site, cookie, "/trash")
    listed = await text_of(site, cookie, "/quarantine")
    assert "whose &lt;one&gt;?" in listed
    assert "a-radiologist" in listed
    (address,) = re.findall(r'href="(/quarantine/[0-9a-f]+)"', listed)
    shown = await text_of(site, cookie, address)
    assert uid(1) in shown
    objects = re.findall(rf'href="({address}/objects/[0-9]+)"', shown)
    assert len(objects) == 3
    assert "Bäcker" in await text_of(site, cookie, objects[0])
    assert (await site.client.get(f"{address}/objects/999", headers=cookie)).status_code == 404
    assert (await post(site, cookie, f"{address}/release")).status_code == 303
    assert await instances(site) == 3
    assert (await post(site, cookie, f"{address}/release")).status_code == 404
    assert (await site.client.get(address, headers=cookie)).status_code == 404


async def test_what_is_quarantined_is_deleted_into_the_trash(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    await post(site, cookie, f"/studies/{STUDY}/quarantine", reason="whose?")
    listed = await text_of(site, cookie, "/quarantine")
    (address,) = re.findall(r'href="(/quarantine/[0-9a-f]+)"', listed)
    assert (await post(site, cookie, f"{address}/delete", reason=" ")).status_code == 400
    answer = await post(site, cookie, f"{address}/delete", reason="a test scan")
    assert (answer.status_code, answer.headers["location"]) == (303, "/trash")
    assert "a test scan" in await text_of(site, cookie, "/trash")
    assert "whose?" not in await text_of(site, cookie, "/quarantine")
    assert (await post(site, cookie, f"{address}/delete", reason="again")).status_code == 404


# -- Rejection notes, retention and holds ---------------------------------------------------


async def test_a_study_is_rejected_by_a_note_that_is_taken_back(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    path = f"/studies/{STUDY}/reject"
    assert path in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "3 instances" in await text_of(site, cookie, path)
    for fields in ({"reason": "", "for": "quality"}, {"reason": "x", "for": "fun"}):
        assert (await post(site, cookie, path, **fields)).status_code == 400
    fields = {"reason": "wrong <one>", "for": "worklist"}
    answer = await post(site, cookie, path, **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/rejections")
    assert await instances(site) == 1  # the note
    listed = await text_of(site, cookie, "/rejections")
    assert "wrong &lt;one&gt;" in listed
    assert "Incorrect Modality Worklist Entry (113038)" in listed
    (revoke,) = re.findall(r'action="(/rejections/[0-9.]+/revoke)"', listed)
    assert (await post(site, cookie, revoke, reason="")).status_code == 400
    assert (await post(site, cookie, revoke, reason="it was right")).status_code == 303
    assert await instances(site) == 3
    assert (await post(site, cookie, revoke, reason="again")).status_code == 404


async def test_what_a_note_hides_is_deleted_into_the_trash(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    await post(site, cookie, f"/studies/{STUDY}/reject", **{"reason": "old", "for": "retention"})
    listed = await text_of(site, cookie, "/rejections")
    (path,) = re.findall(r'action="(/rejections/[0-9.]+/delete)"', listed)
    assert (await post(site, cookie, path, reason="")).status_code == 400
    answer = await post(site, cookie, path, reason="not <needed>")
    assert (answer.status_code, answer.headers["location"]) == (303, "/trash")
    assert "not &lt;needed&gt;" in await text_of(site, cookie, "/trash")
    assert (await post(site, cookie, path, reason="again")).status_code == 404


async def test_what_other_systems_said_of_patients_is_shown(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    assert "No other system" in await text_of(site, cookie, "/reconciliation")
    book = site.parts.stores.reconciliation
    one, other = Identifier("P<1>", "HOSPITAL"), Identifier("P2")
    for number in range(52):
        await book.note(
            Attempt(
                kind=ReconciliationKind.MERGE, patient=one, other=other, actor="ADT",
                message=f"ADT^A40 {number}", at=1.0, outcome=AttemptOutcome.DONE, corrections=(7,),
            ),
        )  # fmt: skip
    await book.link(PatientLink(one=one, other=other, actor="ADT", at=1.0))
    page = await text_of(site, cookie, "/reconciliation")
    assert "P&lt;1&gt; (HOSPITAL)" in page
    assert page.count("<td>merge") == 50
    assert "Linked patients" in page
    (older,) = re.findall(r'rel="next" href="([^"]+)"', page)
    assert (await text_of(site, cookie, older)).count("<td>merge") == 2
    assert "No other system" in await text_of(site, cookie, "/reconciliation?patient=P9")
    answer = await site.client.get("/reconciliation?before=x", headers=cookie)
    assert answer.status_code == 400


async def test_rules_of_retention_are_shown_with_what_they_would_delete(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    page = await text_of(site, cookie, "/retention")
    assert "old &lt;ones&gt;" in page
    assert "its date is more than 365 days ago" in page
    shown = await text_of(site, cookie, "/retention/1")
    assert "1 study with 3 instances" in shown
    assert STUDY in shown
    await post(site, cookie, f"/studies/{STUDY}/hold", reason="case 17")
    assert "0 studies with 0 instances" in await text_of(site, cookie, "/retention/1")
    assert await instances(site) == 3
    for number in ("0", "2", "x"):
        answer = await site.client.get(f"/retention/{number}", headers=cookie)
        assert answer.status_code == 404


async def test_a_study_is_held_until_it_is_no_more(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    path = f"/studies/{STUDY}/hold"
    assert path in await text_of(site, cookie, f"/studies/{STUDY}")
    assert "Hold this study?" in await text_of(site, cookie, path)
    assert (await post(site, cookie, path, reason=" ")).status_code == 400
    assert (await post(site, cookie, path, reason="case <17>")).status_code == 303
    assert (await post(site, cookie, path, reason="case 18")).status_code == 400
    page = await text_of(site, cookie, "/retention")
    assert "case &lt;17&gt;" in page
    assert "a-radiologist" in page
    assert (await post(site, cookie, f"/studies/{STUDY}/delete", reason="x")).status_code == 400
    assert await instances(site) == 3
    assert (await post(site, cookie, "/retention/release", study=STUDY)).status_code == 303
    assert (await post(site, cookie, "/retention/release", study=STUDY)).status_code == 404
    assert (await post(site, cookie, "/studies/1.2.99/hold", reason="x")).status_code == 404


# -- Devices ------------------------------------------------------------------------------


def turned_away(address: str = "10.0.0.9", title: str = "CT<9>") -> RejectedCaller:
    return RejectedCaller(
        address=address, calling_ae_title=title, called_ae_title="ARCHIVE", certificate="",
        count=4, first="2026-11-29T10:00:00+00:00", last="2026-11-29T11:00:00+00:00",
        why="AE title not in the policy", cure="isocenter ae add",
    )  # fmt: skip


async def test_a_device_that_was_turned_away_is_admitted_by_a_button(site: Site) -> None:
    RejectedFile(site.file.folder).add([turned_away(), turned_away(title="")])
    cookie = await site.cookie("a-administrator")
    page = await text_of(site, cookie, "/devices")
    assert 'aria-label="Admit CT&lt;9&gt;"' in page
    assert "Connections that said no AE title" in page
    answer = await post(site, cookie, "/devices", ae_title="CT<9>", address="10.0.0.9")
    assert answer.status_code == 303
    (entity,) = site.file.read().entities
    assert (entity.ae_title, entity.addresses, entity.roles, entity.active) == (
        "CT<9>", ("10.0.0.9",), ("Modality",), True,
    )  # fmt: skip
    (changed,) = [one for one in site.told if isinstance(one, PolicyChanged)]
    assert changed.caller.user == "a-administrator"
    assert "CT<9> admitted" in changed.what
    # It is not offered once more.
    assert await text_of(site, cookie, "/devices") != page
    assert (await post(site, cookie, "/devices", ae_title="CT<9>")).status_code == 400


async def test_who_would_be_turned_away_again_is_not_offered(site: Site) -> None:
    """Whoever calls us by another's title is not helped by being admitted."""
    wrong = replace(turned_away(title="US4"), why="called AE title 'PACS' is not ours", cure="")
    RejectedFile(site.file.folder).add([wrong])
    page = await text_of(site, await site.cookie("a-administrator"), "/devices")
    assert "is not ours" in page
    assert "2026-11-29 11:00:00 UTC" in page
    assert 'aria-label="Admit US4"' not in page


async def test_a_device_is_turned_away_and_keeps_what_it_may(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    fields = {"ae_title": "MR1", "role": "Viewer", "tls": "yes", "description": "second floor"}
    assert (await post(site, cookie, "/devices", **fields)).status_code == 303
    assert (await post(site, cookie, "/devices/turn-away", ae_title="MR1")).status_code == 303
    (entity,) = site.file.read().entities
    assert not entity.active
    assert "turned away" in await text_of(site, cookie, "/devices")
    assert (await post(site, cookie, "/devices", ae_title="MR1")).status_code == 303
    (entity,) = site.file.read().entities
    assert (entity.active, entity.roles, entity.tls) == (True, ("Viewer",), True)
    assert entity.description == "second floor"


async def test_a_device_whose_user_was_deactivated_is_shown_as_turned_away(site: Site) -> None:
    def edit(policy: Policy) -> Policy:
        users = (*policy.users, User(name="zoe", active=False))
        return replace(
            policy, users=users, entities=(ApplicationEntity(ae_title="WS8", user="zoe"),)
        )

    site.file.change(edit)
    page = await text_of(site, await site.cookie("a-administrator"), "/devices")
    row = page[page.index("<td>WS8</td>") :]
    assert row.index("<td>turned away</td>") < row.index("</tr>")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ae_title": ""}, "1 to 16 characters"),
        ({"ae_title": "A" * 17}, "1 to 16 characters"),
        ({"ae_title": "A\\B"}, "no backslash"),
        ({"ae_title": "CT1", "address": "10.0.0.300"}, "an address is one as 10.1.0.7"),
        ({"ae_title": "CT1", "role": "King"}, "no role"),
        ({"ae_title": "CT1", "description": "a\x07b"}, "one line of text"),
    ],
)
async def test_what_cannot_be_admitted_is_told(
    site: Site, fields: dict[str, str], said: str
) -> None:
    cookie = await site.cookie("a-administrator")
    answer = await post(site, cookie, "/devices", **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert not site.file.read().entities


async def test_nobody_unknown_is_turned_away(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    answer = await post(site, cookie, "/devices/turn-away", ae_title="MR7")
    assert answer.status_code == 400
    assert "MR7 is not in the policy" in answer.text


# -- Associations -------------------------------------------------------------------------


async def test_an_association_is_seen_and_aborted_by_a_button(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    assert "Nobody is associated now" in await text_of(site, cookie, "/associations")
    title = "CT<9>"
    async with raw_peer(port_of(site.dicom)) as peer:
        await peer.associate(calling=title)
        page = await text_of(site, cookie, "/associations")
        assert "CT&lt;9&gt;" in page
        assert "CT&lt;9&gt;" in await text_of(site, cookie, "/associations?ae=ct")
        assert "CT&lt;9&gt;" not in await text_of(site, cookie, "/associations?ae=mr")
        (path,) = re.findall(r'action="(/associations/[^"]+/abort)"', page)
        assert path not in await text_of(site, await site.cookie("a-only-state"), "/associations")
        assert (await post(site, cookie, path)).status_code == 303
        assert await peer.pdu() == Abort(0, 0)
    (ended,) = [one for one in site.told if isinstance(one, AssociationEndedByHand)]
    assert (ended.caller.calling_ae_title, ended.by.user) == (title, "a-administrator")
    assert (await post(site, cookie, path)).status_code == 404


async def test_who_was_turned_away_is_admitted_where_associations_are_seen(site: Site) -> None:
    RejectedFile(site.file.folder).add([turned_away()])
    page = await text_of(site, await site.cookie("a-administrator"), "/associations")
    assert 'action="/devices"' in page
    assert "CT&lt;9&gt;" in page


# -- Worklist -----------------------------------------------------------------------------


async def test_scheduled_steps_are_found_and_ended(site: Site) -> None:
    entries = [
        planned(1, patient_name="Doe^J&ne", modality="CT"),
        planned(2, patient_name="Roe^Rick", modality="MR", scheduled_datetime="20261201083000"),
    ]
    await site.parts.stores.worklist.put(entries, source="command")
    cookie = await site.cookie("a-technologist")
    page = await text_of(site, cookie, "/worklist")
    assert "Doe, J&amp;ne" in page
    assert "2026-12-01" in page
    for query, there in (("name=roe", "Roe"), ("modality=mr", "Roe"), ("day=2026-12-01", "Roe")):
        found = await text_of(site, cookie, f"/worklist?{query}")
        assert there in found, query
        assert "Doe" not in found, query
    assert "Roe" not in await text_of(site, cookie, "/worklist?state=COMPLETED")
    key = entries[1].key
    fields = {"step_id": key.step_id, "accession": key.accession_number}
    assert (await post(site, cookie, "/worklist", **fields, state="COMPLETED")).status_code == 303
    assert "Roe" in await text_of(site, cookie, "/worklist?state=COMPLETED")
    assert (await post(site, cookie, "/worklist", **fields, state="remove")).status_code == 303
    assert "Roe" not in await text_of(site, cookie, "/worklist")
    assert (await post(site, cookie, "/worklist", **fields, state="remove")).status_code == 404
    assert (await post(site, cookie, "/worklist", **fields, state="LOST")).status_code == 400


@pytest.mark.parametrize("query", ["day=soon", "name=a%5Cb", "station=" + "x" * 99])
async def test_a_search_of_steps_that_cannot_be_is_told(site: Site, query: str) -> None:
    answer = await site.client.get(f"/worklist?{query}", headers=await site.cookie("a-viewer"))
    assert answer.status_code in (200, 400)
    assert "Scheduled" not in answer.text or answer.status_code == 200
    if query.startswith("day"):
        assert "write a day as 2026-11-29" in answer.text


# -- Queue --------------------------------------------------------------------------------


async def test_what_is_to_be_sent_on_is_shown_and_sent_again(site: Site) -> None:
    archive = site.parts.archive
    async with archive.index.instances(Query(level=Level.STUDY)) as blocks:
        stored = [one async for block in blocks for one in block]
    records = await archive.index.records([one.sop_instance_uid for one in stored])
    routes = (ForwardRoute(destination="PACS&2", rule="all"),)
    again = [replace(one, routes=routes) for one in records.values()]
    await archive.index.add(again, replace=True)
    cookie = await site.cookie("a-administrator")
    page = await text_of(site, cookie, "/queue")
    assert "PACS&amp;2" in page
    assert uid(1) in page
    assert uid(1) not in await text_of(site, cookie, "/queue?state=failed")
    assert uid(1) not in await text_of(site, cookie, "/queue?destination=OTHER")
    answer = await post(site, cookie, "/queue/retry", destination="PACS&2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")


# -- Audit --------------------------------------------------------------------------------


async def test_who_has_done_what_is_shown_and_that_it_was_read_is_told(site: Site) -> None:
    made = [
        replace(entry("1"), event="Query", time="2026-11-01T10:00:00+00:00", ae_titles=("CT1",)),
        replace(
            entry("2"),
            event="Security Alert",
            type="<b>",
            ae_titles=(),
            time="2026-11-02T10:00:00+00:00",
        ),
    ]
    trail(site.file.folder / "audit").append(made)
    cookie = await site.cookie("a-administrator")
    page = await text_of(site, cookie, "/audit")
    assert page.index("Security Alert: &lt;b&gt;") < page.index("Query")
    assert [type(one) for one in site.told].count(TrailRead) == 1
    assert "Security Alert" not in await text_of(site, cookie, "/audit?event=query")
    found = await text_of(site, cookie, "/audit?event=query&first=2026-10-01&before=99")
    (link,) = re.findall(r'href="(/api/v1/audit/export[^"]*)" download', found)
    assert link == ("/api/v1/audit/export?event_type=query&amp;date_from=2026-10-01&amp;format=csv")
    whole = await site.client.get(link.replace("&amp;", "&"), headers=cookie)
    assert whole.headers["content-type"].startswith("text/csv")
    assert len(whole.text.splitlines()) == 2, "the columns, and the query"
    assert 'href="/audit?event=query&amp;first=2026-10-01">Latest' in found
    assert "Security Alert" not in await text_of(site, cookie, "/audit?ae=CT1")
    assert "<td>Query" not in await text_of(site, cookie, "/audit?first=2026-11-02")
    assert "Security Alert:" not in await text_of(site, cookie, "/audit?last=2026-11-01")
    assert "<td>Query" not in await text_of(site, cookie, "/audit?user=nobody")
    assert "<td>Query" not in await text_of(site, cookie, "/audit?outcome=8")
    assert "<td>Query" in await text_of(site, cookie, "/audit?outcome=0")
    assert "<td>Query" not in await text_of(site, cookie, "/audit?study=1.2.99")
    answer = await site.client.get("/audit?first=tomorrow", headers=cookie)
    assert answer.status_code == 400


async def test_older_records_are_behind_a_link(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "_MOST_ROWS", 2)
    made = [replace(entry(str(number)), event=f"Event {number}") for number in range(5)]
    trail(site.file.folder / "audit").append(made)
    cookie = await site.cookie("a-administrator")
    shown, address = [], "/audit?event=event"
    while address:
        page = await text_of(site, cookie, address)
        shown += re.findall(r"<td>(Event \d)", page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        address = "" if found is None else found[1].replace("&amp;", "&")
    assert shown == ["Event 4", "Event 3", "Event 2", "Event 1", "Event 0"]


# -- Who may ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [*GIVEN, "nobody"])
async def test_nobody_reaches_or_sees_what_the_policy_does_not_give(site: Site, role: str) -> None:
    """Every route of the pages, for every role; what is not given is on no page either."""
    cookie = await site.cookie(f"a-{role.lower()}")
    permissions = GIVEN.get(role, {})
    shown = ""
    for route in site.routes:
        if route.path.startswith(("/sign-", "/static/")) or route.path == "/":
            continue
        path = route.path.format(**PLACES)
        headers = {**cookie, "origin": site.root}
        answer = await site.client.request(route.method, path, headers=headers)
        may = not without(permissions_for(route), permissions)
        assert (answer.status_code == 403) is not may, f"{role}: {route.method} {route.path}"
        if answer.status_code == 200:
            shown += answer.text
    for route in site.routes:
        if without(permissions_for(route), permissions):
            path = re.sub(r"\{(?!study|series|instance).*", "", route.path).format(**PLACES)
            seen = r'method="post" action="' if route.method == "POST" else 'href="'
            found = re.search(rf'{seen}{re.escape(path)}["?]', shown)
            assert found is None, f"{role} sees {path}"


@pytest.mark.parametrize(
    ("role", "first"),
    [("Viewer", None), ("Administrator", "/status"), ("only-write", "/upload"), ("nobody", "")],
)
async def test_the_first_page_is_one_that_is_allowed(
    site: Site, role: str, first: str | None
) -> None:
    cookie = await site.cookie(f"a-{role.lower()}")
    answer = await site.client.get("/", headers=cookie)
    if first is None:
        assert answer.status_code == 200
    elif first:
        assert answer.headers["location"] == first
    else:
        assert answer.status_code == 403
        assert "none of these pages" in answer.text
