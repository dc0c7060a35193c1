"""A peer that has gone is worked for no longer, however much it asked for before."""

from __future__ import annotations

import socket
import struct

import trio
import trio.testing

from isocenter.engine.dimse.message_codec import CFindRequest, CFindResponse
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.uid_registry import STUDY_ROOT_FIND as FIND
from support.raw import message_bytes, raw_peer
from support.serving import Scripted, port_of, serving

#: Requests that came behind the first; the window of a peer that negotiated none is one.
PIPELINED = 5
SECONDS = 60.0


async def test_what_a_peer_asked_for_before_it_went_is_not_done() -> None:
    began: list[int] = []

    async def answer_for_ever(operation: Operation) -> None:
        request = operation.request
        assert isinstance(request, CFindRequest)
        began.append(request.message_id)
        await operation.data_set()
        pending = CFindResponse(message_id_being_responded_to=request.message_id, status=0xFF00)
        while True:
            await operation.respond(pending, bytes(60_000))

    async with serving(Scripted([FIND], answer_for_ever)) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(FIND)
            for number in range(1, 2 + PIPELINED):
                request = CFindRequest(message_id=number, affected_sop_class_uid=FIND, priority=0)
                await peer.send(message_bytes(1, request, b""))
            await peer.pdu()
            stream = peer.stream
            assert isinstance(stream, trio.SocketStream)
            # Closing resets the connection: there is unread data.
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with trio.fail_after(SECONDS):
            while server.associations:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert began == [1]
