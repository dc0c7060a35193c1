"""How a stream is cut into chunks changes nothing but where views of data sets are cut."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.streams import mutated, streams
from engine.wire import ACCEPTOR, ASSOCIATE_RQ, answer, in_chunks, joined, listening
from isocenter.engine.association import Association
from isocenter.engine.commands import (
    AcceptAssociation,
    AcceptRelease,
    RejectAssociation,
    RequestRelease,
)
from isocenter.engine.effects import Effect
from isocenter.engine.events import AssociationRequested, ReleaseRequested
from isocenter.engine.negotiation import negotiate
from isocenter.engine.pdu import AssociateReject
from isocenter.engine.states import Sta


def receive(chunks: list[bytes], releases_first: bool) -> tuple[list[object], Sta]:
    """What a server says and does; it accepts whatever it is asked.

    The chunks end with the A-ASSOCIATE-RQ where there is one at the start, as a peer must
    wait there for the answer.
    """
    end = listening()
    effects: list[Effect] = []
    for chunk in chunks:
        given = end.receive_data(chunk)
        effects += given
        for effect in given:
            if isinstance(effect, AssociationRequested) and end.state is Sta.STA3:
                accept = negotiate(effect.request, ACCEPTOR)
                if isinstance(accept, AssociateReject):  # without an AE title that is one
                    effects += end.send(RejectAssociation(accept))
                    continue
                effects += end.send(AcceptAssociation(accept))
                if releases_first:
                    effects += end.send(RequestRelease())
    return joined(effects), end.state


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % len(stream) for place in at} - {0}) if stream else []
    return [
        stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)
    ]


def check(stream: bytes, at: list[int], releases_first: bool) -> None:
    # The first PDU in a chunk of its own: what the acceptor answers to it comes between.
    head, rest = stream[: len(ASSOCIATE_RQ)], stream[len(ASSOCIATE_RQ) :]
    whole = receive([head, rest] if rest else [head], releases_first)
    first = cut(head, at)
    assert receive([*first, rest] if rest else first, releases_first) == whole
    assert receive([head, *cut(rest, at)] if rest else [head], releases_first) == whole
    every_byte = [*in_chunks(head, 1), *in_chunks(rest, 1)]
    assert receive(every_byte, releases_first) == whole


places = st.lists(st.integers(0, 5_000), max_size=12)


@settings(max_examples=120)
@given(streams(), places, st.booleans())
def test_valid_streams(stream: bytes, at: list[int], releases_first: bool) -> None:
    check(stream, at, releases_first)


@settings(max_examples=250)
@given(mutated(), places, st.booleans())
def test_mutated_streams(stream: bytes, at: list[int], releases_first: bool) -> None:
    check(stream, at, releases_first)


def start() -> Association:
    end = listening()
    end.receive_data(ASSOCIATE_RQ)
    end.send(AcceptAssociation(answer()))
    return end


@settings(max_examples=60)
@given(mutated())
def test_every_association_can_be_ended(stream: bytes) -> None:
    """Whatever came: a service-user that accepts a release, or ARTIM, ends it in Sta1."""
    end = start()
    for effect in end.receive_data(stream):
        if isinstance(effect, ReleaseRequested) and end.state is Sta.STA8:
            end.send(AcceptRelease())
    end.timer_expired()
    if end.state is not Sta.STA1:
        end.transport_closed()
    assert end.state is Sta.STA1
    assert end.receive_data(stream) == ()
