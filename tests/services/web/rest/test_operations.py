"""What operators do by the API: certificates, rules, forwarding, trash, figures, log."""

from __future__ import annotations

import io
import logging
import zipfile
from dataclasses import replace

import pytest
from cryptography.x509 import load_pem_x509_certificate

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.orders import Route as ForwardRoute
from isocenter.services.notices import FunctionUsed
from isocenter.services.security.certificates.authority import ensure_ca
from isocenter.services.security.certificates.changes import CertificateChanged
from isocenter.services.workflow.forwarding.ports import Delivered
from services.archive_support import STUDY, store
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

CERTIFICATES = "/security/certificates"


@pytest.fixture
async def filled(site: Site) -> Site:
    for number in (1, 2, 3):
        await store(site.parts.archive, number)
    return site


# -- Certificates -------------------------------------------------------------------------


async def test_a_certificate_is_issued_and_revoked(site: Site) -> None:
    ensure_ca(site.file.folder / "certs")
    body = {"name": "ct1", "ae_title": "CT1", "hosts": ["ct1.example"]}
    answer = await ask(site, "POST", CERTIFICATES, body)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as made:
        assert {"ct1.crt", "ct1.key", "ca.crt"} <= set(made.namelist())
        certificate = load_pem_x509_certificate(made.read("ct1.crt"))
    (shown,) = [
        one for one in (await ask(site, "GET", CERTIFICATES)).json()["data"] if one["name"] == "ct1"
    ]
    assert (shown["ae_title"], shown["state"]) == ("CT1", "valid")
    assert int(shown["serial_number"], 16) == certificate.serial_number
    assert await refused(site, "POST", CERTIFICATES, body) == (400, "INVALID_REQUEST")
    assert (await ask(site, "DELETE", f"{CERTIFICATES}/ct1")).status_code == 204
    assert (await refused(site, "DELETE", f"{CERTIFICATES}/ct1"))[0] == 404
    assert site.reloads == 1
    assert len([one for one in site.told if isinstance(one, CertificateChanged)]) == 2
    for path in ("/security/ca.crt", "/security/crl.pem"):
        assert (await ask(site, "GET", path)).content.startswith(b"-----BEGIN")
    assert (await ask(site, "GET", "/system/certificates")).json() == {"certificates": []}


@pytest.mark.parametrize("body", [{"name": "../x"}, {"name": ""}, {"name": "a", "request": "x"}])
async def test_a_certificate_that_cannot_be_is_told(site: Site, body: dict[str, str]) -> None:
    ensure_ca(site.file.folder / "certs")
    assert await refused(site, "POST", CERTIFICATES, body) == (400, "INVALID_REQUEST")


async def test_without_a_ca_nothing_is_issued(site: Site) -> None:
    assert (await refused(site, "GET", CERTIFICATES))[0] == 503
    assert (await refused(site, "GET", "/security/ca.crt"))[0] == 503


# -- Rules and forwarding -----------------------------------------------------------------


async def test_rules_are_listed_and_tried(filled: Site) -> None:
    assert (await ask(filled, "GET", "/rules")).json() == {"is_on": True, "rules": []}
    body = {"study": STUDY, "calling": "CT1"}
    answer = (await ask(filled, "POST", "/rules/test", body)).json()
    assert sum(one["instances"] for one in answer["trials"]) == 3
    assert (await refused(filled, "POST", "/rules/test", {"study": "1.2.99"}))[0] == 404
    body = {"study": STUDY, "calling": "x" * 17}
    assert (await refused(filled, "POST", "/rules/test", body))[0] == 400


async def test_what_is_to_be_sent_on_is_listed_and_sent_again(filled: Site) -> None:
    index = filled.parts.archive.index
    async with index.instances(Query(level=Level.STUDY)) as blocks:
        stored = [one async for block in blocks for one in block]
    records = await index.records([one.sop_instance_uid for one in stored])
    routes = (ForwardRoute(destination="PACS2", rule="all"),)
    await index.add([replace(one, routes=routes) for one in records.values()], replace=True)
    seen, path = [], "/forwarding?limit=2"
    while path:
        page = (await ask(filled, "GET", path)).json()
        seen += [one["id"] for one in page["data"]]
        after = page["pagination"]["next"]
        path = f"/forwarding?limit=2&after={after}" if after else ""
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)
    assert not (await ask(filled, "GET", "/forwarding?state=failed")).json()["data"]
    assert (await refused(filled, "GET", "/forwarding?state=lost"))[0] == 400
    (destination,) = (await ask(filled, "GET", "/forwarding/destinations")).json()["destinations"]
    assert (destination["destination"], destination["counts"]["due"]) == ("PACS2", 3)
    answer = await ask(filled, "POST", "/forwarding/retry", {"destination": "PACS2"})
    assert answer.json() == {"count": 0}
    (told,) = [one for one in filled.told if isinstance(one, FunctionUsed)]
    assert "PACS2" in told.what


async def test_a_destination_is_asked_to_commit_what_it_was_sent(filled: Site) -> None:
    order = {"study_instance_uid": STUDY, "destination": "PACS2"}
    answer = await ask(filled, "POST", "/forwarding/commit", order)
    assert answer.json() == {"count": 0}
    index = filled.parts.archive.index
    async with index.instances(Query(level=Level.STUDY)) as blocks:
        stored = [one async for block in blocks for one in block]
    records = await index.records([one.sop_instance_uid for one in stored])
    routes = (ForwardRoute(destination="PACS2", rule="all"),)
    await index.add([replace(one, routes=routes) for one in records.values()], replace=True)
    queue = filled.parts.stores.forwards
    await queue.settle([Delivered(record) for record in await queue.take("PACS2", 9)])
    answer = await ask(filled, "POST", "/forwarding/commit", order)
    assert answer.json() == {"count": 3}
    (destination,) = (await ask(filled, "GET", "/forwarding/destinations")).json()["destinations"]
    assert destination["counts"]["sent"] == 3
    assert "PACS2" in [one for one in filled.told if isinstance(one, FunctionUsed)][-1].what
    assert (await refused(filled, "POST", "/forwarding/commit", {"destination": "A"}))[0] == 400


# -- Trash --------------------------------------------------------------------------------


async def test_what_was_deleted_is_listed_and_put_back(filled: Site) -> None:
    answer = await ask(filled, "DELETE", f"/studies/{STUDY}?reason=twice")
    assert answer.is_success, answer.text
    (shown,) = (await ask(filled, "GET", "/trash")).json()["data"]
    assert (shown["instances"], shown["by"]) == (3, "program")
    path = f"/trash/{shown['id']}/restore"
    assert (await ask(filled, "POST", path)).json() == {"instances": 3}
    assert (await filled.parts.archive.index.statistics()).instances == 3
    assert (await refused(filled, "POST", path))[0] == 404


# -- Figures and log ----------------------------------------------------------------------


async def test_figures_of_the_system(filled: Site) -> None:
    metrics = (await ask(filled, "GET", "/system/metrics")).json()
    by_name = {one["name"]: one for one in metrics["metrics"]}
    (version,) = by_name["isocenter_build_info"]["samples"]
    assert version == {
        "name": "isocenter_build_info", "labels": {"version": "1.2.3"}, "value": 1.0,
    }  # fmt: skip
    await filled.usage.count()
    storage = (await ask(filled, "GET", "/system/storage")).json()
    assert sum(one["instances"] for one in storage["by_modality"].values()) == 3
    assert storage["counted_at"]
    checks = (await ask(filled, "GET", "/system/checks")).json()["checks"]
    assert {one["severity"] for one in checks} <= {"", "note", "warning", "error"}


async def test_figures_of_the_database(filled: Site) -> None:
    health = (await ask(filled, "GET", "/health/database")).json()
    assert (health["status"], health["error_rate"], health["warnings"]) == ("healthy", 0.0, [])
    before = (await ask(filled, "GET", "/metrics/database")).json()
    await filled.parts.archive.index.statistics()
    after = (await ask(filled, "GET", "/metrics/database")).json()
    assert after["total_queries"] > before["total_queries"] > 0
    assert after["latency"]["min_us"] <= after["latency"]["p95_us"] <= after["latency"]["max_us"]
    slow = (await ask(filled, "GET", "/metrics/database/slow-queries")).json()
    assert slow["threshold_ms"] == 1000.0


async def test_lines_of_the_log(site: Site) -> None:
    for level, text in ((logging.INFO, "first"), (logging.WARNING, "second")):
        site.recent.handle(logging.LogRecord("isocenter.x", level, "", 0, text, (), None))
    lines = (await ask(site, "GET", "/system/log")).json()
    assert [one["message"] for one in lines["lines"]] == ["second", "first"]
    lines = (await ask(site, "GET", "/system/log?limit=1")).json()
    assert (len(lines["lines"]), lines["is_cut"]) == (1, True)
    for query in ("level=warning", "find=SECOND"):
        lines = (await ask(site, "GET", f"/system/log?{query}")).json()
        assert [one["message"] for one in lines["lines"]] == ["second"]
    for query in ("level=loud", "limit=0", "limit=1001", "limit=x"):
        assert (await refused(site, "GET", f"/system/log?{query}"))[0] == 400
