"""A peer, from the name of its host to what it serves."""

from __future__ import annotations

from isocenter.engine.errors import AssociationError
from isocenter.engine.fast_init import dataclass
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget, check_connection
from isocenter.services.diagnostics.doctor.echo_latency import check_echo
from isocenter.services.diagnostics.doctor.move_destination import (
    Destination,
    check_move_destination,
)
from isocenter.services.diagnostics.doctor.negotiation import (
    check_association,
    check_services,
    check_storage,
)
from isocenter.services.diagnostics.doctor.query_store import check_find, check_store
from isocenter.services.diagnostics.findings import Side, warning


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCheckOptions:
    """What is examined beside what always is.

    Attributes:
        thorough: every transfer syntax with every storage SOP class.
        find: C-FIND.
        store: C-STORE of an object that stays at the peer.
        move_to: C-MOVE to us; None: not.
    """

    thorough: bool = False
    find: bool = False
    store: bool = False
    move_to: Destination | None = None


async def check_peer(way: PeerTarget, tell: Tell, wishes: PeerCheckOptions) -> bool:
    """Each step as far as the one before lets us; whether there are associations."""
    if not await check_connection(way, tell):
        return False
    if not await check_association(way, tell):
        return False
    await check_echo(way, tell)
    try:
        await check_services(way, tell)
        await check_storage(way, tell, thorough=wishes.thorough)
    except AssociationError as fault:
        finding = warning(
            f"an association with many presentation contexts failed: {fault}",
            "PS3.8 9.3.2.2",
            "see the log of the peer; 128 contexts are allowed, and some programs take fewer",
            meaning="what it accepts is not known; objects of few kinds may be sent all the same",
            side=Side.PEER,
        )
        tell(CheckResult("contexts", "not known", (finding,)))
    if wishes.find:
        await check_find(way, tell)
    if wishes.store:
        await check_store(way, tell)
    if wishes.move_to is not None:
        await check_move_destination(way, wishes.move_to, tell)
    return True
