"""Associations that last, as somebody sees them, and ended by hand."""

from __future__ import annotations

import trio

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.pdu import Abort
from isocenter.services.association.operation import Operation
from isocenter.services.association.server import AssociationEndedByHand
from isocenter.services.notices import AssociationEnded, AssociationOutcome, Caller, Notice, Notices
from support.raw import message_bytes, raw_peer
from support.serving import Scripted, port_of, serving

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE = CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2")
ALICE = Caller(association="", address="127.0.0.1:1", user="alice")


async def test_an_association_is_seen_with_what_it_does_and_ended_in_the_middle_of_it() -> None:
    heard: list[Notice] = []
    begun = trio.Event()

    async def never(operation: Operation) -> None:
        begun.set()
        await trio.sleep_forever()

    service = Scripted([CT], never)
    async with serving(service, notices=Notices(heard.append)) as server:
        assert server.live() == []
        async with raw_peer(port_of(server)) as peer, raw_peer(port_of(server)):
            await peer.associate(CT, calling="CT1", called="ARCHIVE")
            (idle,) = server.live()
            assert (idle.performing, idle.performed) == ((), 0)
            assert [one.abstract_syntax for one in idle.contexts] == [CT]
            await peer.send(message_bytes(1, STORE, b""))
            await begun.wait()
            (busy,) = server.live()
            assert busy.performing == ("C-STORE",)
            assert (busy.caller.calling_ae_title, busy.caller.called_ae_title) == ("CT1", "ARCHIVE")
            assert busy.caller.address == peer.address
            assert busy.bytes_received > idle.bytes_received > 0
            assert busy.seconds >= idle.seconds >= 0

            assert not await server.end_by_hand("nobody", ALICE)
            assert await server.end_by_hand(busy.caller.association, ALICE)
            assert await peer.pdu() == Abort(0, 0)
            await peer.stream.aclose()
            await server._admission.wait_for_change()
        assert server.live() == []
        assert server.operations() == server.statistics.operations == 1
    (told,) = [one for one in heard if isinstance(one, AssociationEndedByHand)]
    assert (told.caller.calling_ae_title, told.by) == ("CT1", ALICE)
    (ended,) = [one for one in heard if isinstance(one, AssociationEnded)]
    assert (ended.ending, ended.why) == (AssociationOutcome.ABORTED_HERE, "it was ended by alice")
