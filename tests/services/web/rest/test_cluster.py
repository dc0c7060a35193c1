"""Nodes of the archive in the API."""

from __future__ import annotations

from isocenter.services.cluster.member import NodeIdentity
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site


async def test_nodes_are_shown_ended_and_forgotten(site: Site) -> None:
    members = site.parts.stores.members
    assert (await ask(site, "GET", "/cluster/nodes")).json() == {"nodes": []}
    one = NodeIdentity(name="one", place="p", address="ISOCENTER@a:11112", version="1.0")
    await members.join(one)
    (shown,) = (await ask(site, "GET", "/cluster/nodes")).json()["nodes"]
    assert (shown["name"], shown["state"], shown["address"]) == ("one", "up", one.address)
    assert await refused(site, "DELETE", "/cluster/nodes/one") == (409, "CONFLICT")
    assert (await ask(site, "POST", "/cluster/nodes/one/drain")).status_code == 204
    (shown,) = (await ask(site, "GET", "/cluster/nodes")).json()["nodes"]
    assert shown["state"] == "draining"
    await members.leave(one)
    assert await refused(site, "POST", "/cluster/nodes/one/drain") == (404, "NOT_FOUND")
    assert (await ask(site, "DELETE", "/cluster/nodes/one")).status_code == 204
    assert await refused(site, "DELETE", "/cluster/nodes/one") == (404, "NOT_FOUND")
    assert await members.list() == []
