"""Page of the nodes that have the archive together."""

from __future__ import annotations

from isocenter.services.cluster.member import NodeIdentity
from isocenter.services.notices import NodesChanged
from services.web.signed_in import Site
from services.web.ui.people import post, text_of


async def test_nodes_are_shown_with_their_duties_ended_and_forgotten(site: Site) -> None:
    cookie = await site.cookie("a-administrator")
    stores = site.parts.stores
    assert "has the archive for itself" in await text_of(site, cookie, "/cluster")
    for name in ("one", "two"):
        await stores.members.join(
            NodeIdentity(name=name, place=name, address=f"ISOCENTER@{name}:11112", version="1.0")
        )
    assert await stores.leases.take("events", "two/worker", 60.0)
    page = await text_of(site, cookie, "/cluster")
    assert "ISOCENTER@two:11112" in page
    assert page.count("<td>events</td>") == 1
    assert page.count(">Drain</button>") == 2
    answer = await post(site, cookie, "/cluster/one/drain")
    assert (answer.status_code, answer.headers["location"]) == (303, "/cluster")
    assert "<td>draining</td>" in await text_of(site, cookie, "/cluster")
    assert (await post(site, cookie, "/cluster/one/remove")).status_code == 409
    await stores.members.leave(NodeIdentity(name="one", place="one"))
    assert (await post(site, cookie, "/cluster/one/drain")).status_code == 404
    assert (await post(site, cookie, "/cluster/one/remove")).status_code == 303
    assert [member.name for member in await stores.members.list()] == ["two"]
    told = [one.what for one in site.told if isinstance(one, NodesChanged)]
    assert told == ["node one of this archive is to end", "node one of this archive is forgotten"]


async def test_whoever_may_only_look_ends_nothing(site: Site) -> None:
    await site.parts.stores.members.join(NodeIdentity(name="one", place="here"))
    cookie = await site.cookie("a-only-state")
    page = await text_of(site, cookie, "/cluster")
    assert "<td>one</td>" in page
    assert "/cluster/one/drain" not in page
