"""What the durability tests send, how they send it, and how they look at what is left.

Every object can be made again from its name, so a ledger needs no bytes: the n-th version of
an instance is the same whoever asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import trio

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.engine.dimse.message_codec import CEchoRequest, CStoreRequest, CStoreResponse
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.index.query import Level
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from support.raw import Data, RawPeer, message_bytes, raw_peer
from support.studies import CT_IMAGE_STORAGE

ROOT = "1.2.826.0.1.3680043.10.998"
#: What is held in memory before it is written: one object in so many is larger.
LARGE = (1 << 20) + 70_001
#: Seconds within which a start has to be through, whatever the crash left; a quiet machine needs
#: one or two.
START_LIMIT = 60.0

SUCCESS = 0x0000


@dataclass(frozen=True, slots=True)
class Item:
    """One version of one instance."""

    study: int
    number: int
    size: int = 6_000
    version: int = 1

    @property
    def study_uid(self) -> str:
        return f"{ROOT}.{self.study}"

    @property
    def series_uid(self) -> str:
        return f"{ROOT}.{self.study}.1"

    @property
    def uid(self) -> str:
        return f"{ROOT}.{self.study}.1.{self.number}"

    def data_set(self) -> bytes:
        seed = f"{self.study} {self.number} {self.size} {self.version}"
        return _data_set(self, Random(seed).randbytes(self.size & ~1))

    def part10(self, calling: str) -> bytes:
        """The file that the archive makes of it."""
        return (
            write_file_meta(
                sop_class_uid=CT_IMAGE_STORAGE,
                sop_instance_uid=self.uid,
                transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
                source_ae_title=calling,
            )
            + self.data_set()
        )


def _data_set(item: Item, pixels: bytes) -> bytes:
    texts = [
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00080016, "UI", CT_IMAGE_STORAGE),
        (0x00080018, "UI", item.uid),
        (0x00080020, "DA", "20260102"),
        (0x00080060, "CS", "CT"),
        (0x00100010, "PN", f"Crash^Test {item.study}"),
        (0x00100020, "LO", f"P{item.study}"),
        (0x0020000D, "UI", item.study_uid),
        (0x0020000E, "UI", item.series_uid),
        (0x00200011, "IS", "1"),
        (0x00200013, "IS", str(item.number)),
    ]
    elements = [(tag, vr, text.encode()) for tag, vr, text in texts]
    return write_data_set([*elements, (0x7FE00010, "OW", pixels)], EXPLICIT_LITTLE)


class ConnectionLost(Exception):
    """The server is gone, or has cut us off."""


class Sender:
    """Stores over one raw association, one object after the other."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        self._message_ids = count(1)

    async def associate(self) -> None:
        try:
            await self._peer.associate(CT_IMAGE_STORAGE, VERIFICATION, max_pdu_length=131_072)
        except (trio.BrokenResourceError, trio.ClosedResourceError, AssertionError) as error:
            raise ConnectionLost from error

    def request(self, item: Item) -> bytes:
        """The whole C-STORE-RQ."""
        message = CStoreRequest(
            message_id=next(self._message_ids) & 0xFFFF,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid=item.uid,
        )
        return message_bytes(1, message, item.data_set())

    async def send(self, data: bytes) -> None:
        try:
            await self._peer.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost from error

    async def answer(self) -> CStoreResponse:
        try:
            received = await self._peer.pdu()
            if not isinstance(received, Data):
                raise ConnectionLost
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost from error
        message = response_in(received.pdvs[0][2])
        assert message is not None, received
        return message

    async def store(self, item: Item) -> int:
        """The status of the answer."""
        await self.send(self.request(item))
        return (await self.answer()).status

    async def echo(self) -> int:
        message, _ = await self._peer.exchange(
            3,
            CEchoRequest(
                message_id=next(self._message_ids) & 0xFFFF, affected_sop_class_uid=VERIFICATION
            ),
        )
        status: int = message.status  # type: ignore[union-attr]
        return status


def response_in(command_set: bytes) -> CStoreResponse | None:
    """The C-STORE-RSP that a command set is, if it is one."""
    from isocenter.engine.dimse.message_codec import decode_message

    message, _ = decode_message(command_set)
    return message if isinstance(message, CStoreResponse) else None


async def store_one(port: int, item: Item) -> int:
    """Store over an association of its own; the status."""
    async with raw_peer(port) as peer:
        sender = Sender(peer)
        await sender.associate()
        return await sender.store(item)


async def echo(port: int) -> int:
    """Does it serve?  The status of a C-ECHO."""
    async with raw_peer(port) as peer:
        sender = Sender(peer)
        await sender.associate()
        return await sender.echo()


async def findable(port: int, studies: Iterable[int]) -> set[str]:
    """The SOP Instance UIDs below these studies that C-FIND gives at IMAGE level."""
    found = set()
    peer = Peer("ISOCENTER", "127.0.0.1", port)
    contexts = [(sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)]
    async with open_association(peer, contexts) as association:
        for study in studies:
            keys = [
                ("StudyInstanceUID", f"{ROOT}.{study}"),
                ("SeriesInstanceUID", f"{ROOT}.{study}.1"),
                ("SOPInstanceUID", ""),
            ]
            identifier = build_identifier(keys, Level.IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)
            async for match in association.find(identifier):
                found.add(str(match.SOPInstanceUID))
    return found


async def studies_found(port: int) -> set[str]:
    """The Study Instance UIDs of all studies, as C-FIND gives them."""
    peer = Peer("ISOCENTER", "127.0.0.1", port)
    contexts = [(sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)]
    identifier = build_identifier(
        [("StudyInstanceUID", "")], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN
    )
    async with open_association(peer, contexts) as association:
        return {str(match.StudyInstanceUID) async for match in association.find(identifier)}


def staged(data_dir: Path) -> list[str]:
    """What is left of objects that were on their way in."""
    return sorted(os.listdir(data_dir / "staging"))
