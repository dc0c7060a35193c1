"""Associations in the API: those that last, figures, and the end of one."""

from __future__ import annotations

from datetime import datetime

from isocenter.engine.pdu import Abort
from isocenter.services.association.server import AssociationEndedByHand
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site
from support.raw import raw_peer
from support.serving import port_of


async def test_an_association_is_seen_and_aborted(site: Site) -> None:
    empty = (await ask(site, "GET", "/associations/active")).json()
    assert (empty["data"], empty["workers"], empty["max_associations"]) == ([], 1, 100)
    async with raw_peer(port_of(site.dicom)) as peer:
        await peer.associate(calling="CT1", called="ARCHIVE")
        (shown,) = (await ask(site, "GET", "/associations/active?ae=ct")).json()["data"]
        assert (await ask(site, "GET", "/associations/active?ae=mr")).json()["data"] == []
        assert (shown["calling_ae_title"], shown["called_ae_title"]) == ("CT1", "ARCHIVE")
        assert (shown["address"], shown["is_tls"]) == (peer.address, False)
        assert shown["contexts"][0]["abstract_syntax_name"] == "Verification SOP Class"
        assert datetime.fromisoformat(shown["since"]).tzinfo is not None
        path = f"/associations/{shown['id']}"
        assert (await ask(site, "GET", path)).json()["id"] == shown["id"]
        assert (await ask(site, "DELETE", path)).status_code == 204
        assert await peer.pdu() == Abort(0, 0)
        figures = (await ask(site, "GET", "/associations/active")).json()
        assert figures["bytes_received"] > empty["bytes_received"] == 0
        assert figures["bytes_sent"] > 0
        assert figures["server_running"]
    (ended,) = [one for one in site.told if isinstance(one, AssociationEndedByHand)]
    assert (ended.caller.calling_ae_title, ended.by.certificate) == ("CT1", "program")
    assert (await refused(site, "DELETE", path))[0] == 404
    assert (await refused(site, "GET", path))[0] == 404
