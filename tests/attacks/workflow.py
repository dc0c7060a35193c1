"""What attackers do to the department's workflow: orders, worklist, steps, commitment, events.

As `attacks.attacks`; only ours has all of it.  Others who are served are played here, too: an
attack ends with what they got.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attacks.attacks import Attack, element, many, nested, opened
from attacks.peer import (
    COMMITMENT,
    COMMITMENT_CONTEXT,
    CT,
    MPPS,
    MPPS_CONTEXT,
    STORE_CONTEXT,
    WORKLIST,
    WORKLIST_CONTEXT,
    Closed,
    Peer,
    Sender,
    Target,
    associated,
    command,
    data_set,
    framed,
    store,
    summed_up,
)
from isocenter.engine.dimse.message_codec import (
    CFindRequest,
    NActionRequest,
    NCreateRequest,
    NSetRequest,
)
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.commitment.transaction import WELL_KNOWN_INSTANCE
from isocenter.services.service_classes.mpps.scu import new_step
from services.integration.hl7.samples import OMI, ORM, changed
from services.workflow.events.hooks import webhook

_MIB: Final = 1 << 20
ENTRIES: Final = 10_000
#: Of somebody else, meanwhile.
_ORDERS: Final = 5
_ROOT: Final = "1.2.826.0.1.3680043.10.999.66"


def write_entries(path: Path, count: int) -> None:
    """A worklist for `isocenter worklist import`, with names that are long."""
    with path.open("w") as file:
        for number in range(count):
            entry = {
                "step_id": f"SPS{number}",
                "accession_no": f"B{number}",
                "patient_id": f"PAT{number}",
                "patient_name": "a" * 60,
                "modality": "CT",
                "station_ae": f"CT_{number % 40}",
                "scheduled_datetime": f"202611{1 + number % 28:02}093000",
                "procedure_desc": "CT CHEST",
            }
            file.write(json.dumps(entry) + "\n")


# Orders by HL7.


def _others_order(target: Target) -> str:
    """Somebody else, who only wants to order."""
    fates = []
    for _ in range(_ORDERS):
        try:
            with Sender(target.hl7_port) as sender:
                fates.append(sender.order(ORM))
        except Closed as closed:
            fates.append(str(closed))
    return f"others: {summed_up(fates)}"


_OTHERS_ORDER: Final = f"others: {_ORDERS} × AA$"


def idle_senders(target: Target, scale: float) -> str:
    with ExitStack() as stack:
        senders = opened(stack, target.hl7_port, many(1_000, scale))
        return f"{len(senders)} opened; {_others_order(target)}"


def trickling_messages(target: Target, scale: float) -> str:
    message = framed(ORM)
    with ExitStack() as stack:
        senders = opened(stack, target.hl7_port, many(100, scale))
        until = time.monotonic() + 5 * scale
        sent = 0
        while time.monotonic() < until:
            for sender in senders:
                with suppress(Closed):
                    sender.send(message[sent : sent + 1])
            sent += 1
            time.sleep(0.05)
        return f"{sent} bytes from each of {len(senders)}; {_others_order(target)}"


def endless_messages(target: Target, scale: float) -> str:
    piece = b"\x0bMSH|^~\\&|" + b"x" * _MIB
    with ExitStack() as stack:
        senders = opened(stack, target.hl7_port, 30)
        sent = 0
        for number in range(10):
            for sender in senders[: many(30, scale)]:
                with suppress(Closed):
                    sender.send(piece if number == 0 else piece[20:])
                    sent += 1
        return f"{sent} MiB; {_others_order(target)}"


MALFORMED: Final = (
    b"",
    b"MSH",
    b"MSH|",
    b"MSH|^~\\&",
    b"MSH||||||||||||",
    b"MSH|||||||||ORM^O01|1|P|2.3.1\r",
    b"MSH|^~\\&|A|B|C|D||SECURITY|ORM^O01|1|P|2.3.1",
    b"PID|1||PAT1\rMSH|^~\\&|",
    b"\xff\xfe\x00" * 100,
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.3.1\r" + b"PID\r" * 500,
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.3.1\rPID|" + b"|" * 5_000,
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.3.1\rPID|" + b"^~&" * 3_000,
    b"MSH|^~\\&|A|B|C|D|20260101||ORM^O01|1|P|2.3.1\rPID|" + b"\\X41\\" * 2_000,
    changed(ORM, "PID", 5, "").encode(),
    changed(ORM, "MSH", 9, "ADT^A08").encode(),
    changed(ORM, "MSH", 18, "UNKNOWN").encode(),
    changed(ORM, "ORC", 1, "ZZ").encode(),
    changed(OMI, "IPC", 9, "A\\B" * 100).encode(),
)


def malformed_messages(target: Target, scale: float) -> str:
    fates = []
    for _ in range(many(100, scale)):
        with suppress(Closed), Sender(target.hl7_port) as sender:
            fates += [sender.order(message) for message in MALFORMED]
    return f"{summed_up(fates)}; {_others_order(target)}"


def orders_for_others(target: Target, scale: float) -> str:
    """Good orders, for stations that are not there."""
    until = time.monotonic() + 10 * scale
    fates = []
    with Sender(target.hl7_port) as sender:
        for number in range(many(10_000, scale)):
            if time.monotonic() > until:
                break
            message = changed(changed(ORM, "OBR", 20, f"S{number}"), "OBR", 21, "STRANGER")
            fates.append(sender.order(changed(message, "OBR", 18, f"X{number}")))
    return f"{summed_up(fates)}; {_others_order(target)}"


_FORGED_VALUES: Final = (
    "A\nFORGED", "A\x1b[2JFORGED", "A\x00FORGED", "A\\.br\\FORGED", "A\\X0A\\FORGED",
)  # fmt: skip
_FORGED_FIELDS: Final = (
    ("MSH", 3), ("MSH", 9), ("MSH", 10), ("MSH", 12), ("MSH", 18),
    ("PID", 3), ("ORC", 1), ("OBR", 18), ("OBR", 20), ("OBR", 24),
)  # fmt: skip


def forged_orders(target: Target, scale: float) -> str:
    fates = []
    for value in _FORGED_VALUES:
        for segment, number in _FORGED_FIELDS:
            with suppress(Closed), Sender(target.hl7_port) as sender:
                fates.append(sender.order(changed(ORM, segment, number, value)))
    return f"{summed_up(fates)}; {_others_order(target)}"


def unread_acknowledgements(target: Target, scale: float) -> str:
    flood = framed("MSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.3.1\r") * 200
    with ExitStack() as stack:
        sent = 0
        for sender in opened(stack, target.hl7_port, 20):
            sender.sock.settimeout(0.1)
            with suppress(Closed):
                for _ in range(many(20, scale)):
                    sender.send(flood)
                    sent += 200
        return f"{sent:,} messages; {_others_order(target)}"


# Worklist queries.


def _find(message_id: int = 1) -> CFindRequest:
    return CFindRequest(message_id=message_id, affected_sop_class_uid=WORKLIST)


def _asked(target: Target, identifier: bytes) -> str:
    try:
        with associated(target) as peer:
            began = time.monotonic()
            status, found = peer.ask(WORKLIST_CONTEXT, _find(), identifier)
            took = time.monotonic() - began
            return f"{status:04X}H, {len(found)} entries" + (f", {took:.0f} s" * (took > 1))
    except Closed as closed:
        return str(closed)


def _sequence(tag: int, items: bytes) -> bytes:
    return struct.pack("<HH2sxxI", tag >> 16, tag & 0xFFFF, b"SQ", len(items)) + items


def hard_stars(target: Target, scale: float) -> str:
    fates = []
    for pattern in (b"*a" * 30 + b"*b", b"*" * 64, b"?" * 64, b"*?" * 30 + b"b"):
        fates.append(_asked(target, element(0x00100010, b"PN", pattern)))
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF) + element(
            0x00400007, b"LO", pattern
        )
        item += struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        fates.append(_asked(target, _sequence(0x00400100, item)))
    return summed_up(fates)


def many_keys(target: Target, scale: float) -> str:
    fates = []
    for count in (1_000, many(100_000, scale)):
        keys = b"".join(element(0x00100021 + (n << 16), b"LO", b"") for n in range(count // 100))
        private = b"".join(element(0x00110010 + n, b"LO", b"a*") for n in range(min(count, 60_000)))
        fates.append(_asked(target, keys + private))
    return summed_up(fates)


def nested_keys(target: Target, scale: float) -> str:
    return _asked(target, nested(0x00400100, many(10_000, scale)))


def keys_with_items(target: Target, scale: float) -> str:
    """Sequences with thousands of items: in a key, one is allowed."""
    empty = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    fates = [
        _asked(target, _sequence(0x00400100, empty * many(n, scale))) for n in (5_000, 100_000)
    ]
    return summed_up(fates)


def answers_not_read(target: Target, scale: float) -> str:
    """Everybody asks for all entries, again and again, and reads nothing."""
    with ExitStack() as stack:
        asked = 0
        for _ in range(many(20, scale)):
            with suppress(Closed):
                peer = stack.enter_context(associated(target))
                peer.sock.settimeout(0.2)
                for number in range(1, 4):
                    peer.send(command(WORKLIST_CONTEXT, _find(number), has_data_set=True))
                    peer.send(*data_set(WORKLIST_CONTEXT, element(0x00100010, b"PN", b"")))
                    asked += 1
        began = time.monotonic()
        other = _asked(target, element(0x00080050, b"SH", b"B2"))
        time.sleep(2 * scale)
        took = time.monotonic() - began - 2 * scale
        return f"{asked} queries for {target.entries:,} entries; others: {other}" + (
            f" after {took:.0f} s" * (took > 1)
        )


# Performed procedure steps.


def _step(number: int) -> bytes:
    step = new_step(
        performed_step_id=f"P{number}",
        station_ae_title="ATTACKER",
        modality="CT",
        started=datetime(2026, 11, 21, tzinfo=UTC),
        study_instance_uid=f"{_ROOT}.{number}",
    )
    return AttributeList.from_dataset(step).encode(EXPLICIT_VR_LITTLE_ENDIAN)


def _create(peer: Peer, uid: str, content: bytes) -> int:
    request = NCreateRequest(
        message_id=1, affected_sop_class_uid=MPPS, affected_sop_instance_uid=uid
    )
    return peer.ask(MPPS_CONTEXT, request, content)[0]


def many_steps(target: Target, scale: float) -> str:
    """As many as can be created in a while by five at once."""
    number = many(10_000, scale) // 5
    until = time.monotonic() + 8 * scale
    fates: list[str] = []

    def work(who: int) -> None:
        content = _step(who)
        with suppress(Closed), associated(target) as peer:
            for count in range(number):
                if time.monotonic() > until:
                    break
                uid = f"{_ROOT}.1.{who}.{time.time_ns()}.{count}"
                fates.append(f"{_create(peer, uid, content):04X}H")

    threads = [threading.Thread(target=work, args=(who,)) for who in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summed_up(fates)


def large_sets(target: Target, scale: float) -> str:
    """N-SETs of a MiB, each with attributes of its own: a step must not grow without end."""
    fates = []
    uid = f"{_ROOT}.2.{time.time_ns()}"
    with associated(target) as peer:
        fates.append(f"created {_create(peer, uid, _step(1)):04X}H")
    for number in range(many(20, scale)):
        request = NSetRequest(
            message_id=1, requested_sop_class_uid=MPPS, requested_sop_instance_uid=uid
        )
        group = 0x00110000 + (number << 17)
        content = element(group | 0x10, b"LO", b"A") + b"".join(
            struct.pack("<HH2sxxI", group >> 16, 0x1000 + part, b"OB", 60_000) + bytes(60_000)
            for part in range(17)
        )
        try:
            with associated(target) as peer:
                status, _ = peer.ask(MPPS_CONTEXT, request, content)
                fates.append(f"{status:04X}H")
        except Closed as closed:
            fates.append(str(closed))
    return summed_up(fates)


# Storage commitment.


def many_references(target: Target, scale: float) -> str:
    """Of instances that are not here: first too many, then as many as can be asked for."""
    fates = []
    for count in (many(100_000, scale), 7_000):
        items = b"".join(_reference(number) for number in range(count))
        transaction = element(0x00081195, b"UI", f"{_ROOT}.3.{time.time_ns()}".encode())
        request = NActionRequest(
            message_id=1,
            requested_sop_class_uid=COMMITMENT,
            requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
            action_type_id=1,
        )
        try:
            with associated(target) as peer:
                content = transaction + _sequence(0x00081199, items)
                status, _ = peer.ask(COMMITMENT_CONTEXT, request, content)
                fates.append(f"{status:04X}H")
                if status == 0:
                    report, _ = peer.message()
                    fates.append(type(report).__name__)
        except Closed as closed:
            fates.append(str(closed))
    return ", then ".join(fates)


def _reference(number: int) -> bytes:
    content = element(0x00081150, b"UI", CT.encode()) + element(
        0x00081155, b"UI", f"{_ROOT}.{number}".encode()
    )
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


# Events.


@contextmanager
def _silent_listener(port: int) -> Iterator[list[socket.socket]]:
    """It takes connections and what comes over them, and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:

        def work() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for sock in taken:
                sock.close()


def silent_consumer(target: Target, scale: float) -> str:
    silent, other = target.hooks
    studies = {f"{_ROOT}.4.{time.time_ns()}.{n}" for n in range(many(100, scale))}
    with _silent_listener(silent) as taken, webhook(other) as hook:
        hook.headers["Connection"] = "close"  # what is kept open for the next event is no leak
        with associated(target) as peer:
            for study in studies:
                content = (
                    element(0x00080016, b"UI", CT.encode())
                    + element(0x00080018, b"UI", f"{study}.1.1".encode())
                    + element(0x0020000D, b"UI", study.encode())
                    + element(0x0020000E, b"UI", f"{study}.1".encode())
                )
                peer.send(command(STORE_CONTEXT, store(f"{study}.1.1"), has_data_set=True))
                peer.send(*data_set(STORE_CONTEXT, content))
                peer.message()
        try:
            hook.wait(lambda events: studies <= {e["study_instance_uid"] for e in events})
            told = "all"
        except AssertionError:
            told = f"{len(hook.accepted)} of {len(studies)}"
        return f"{len(taken)} deliveries without an answer; others: {told} told"


def _attack(
    name: str, title: str, play: Callable[[Target, float], str], wanted: str = ""
) -> Attack:
    return Attack(name, title, play, wanted, needs_ours=True)


WORKFLOW_ATTACKS: Final = (
    _attack("hl7-idle", "1,000 senders of orders that say nothing", idle_senders, _OTHERS_ORDER),
    _attack("hl7-trickle", "100 orders of a byte now and then", trickling_messages, _OTHERS_ORDER),
    _attack("hl7-endless", "30 orders of 10 MiB without an end", endless_messages, _OTHERS_ORDER),
    _attack("hl7-malformed", "messages that are none, by the thousand", malformed_messages,
            _OTHERS_ORDER),
    _attack("hl7-others", "orders for other stations, by the thousand", orders_for_others,
           rf"^\d+ × AA; {_OTHERS_ORDER}"),
    _attack("hl7-log", "orders that forge lines of a log", forged_orders, _OTHERS_ORDER),
    _attack("hl7-unread", "20 senders who never read", unread_acknowledgements, _OTHERS_ORDER),
    _attack("stars", "worklist queries full of stars", hard_stars),
    _attack("keys", "worklist queries with 1,000 keys and more", many_keys),
    _attack("deep-keys", "10,000 keys in each other", nested_keys),
    _attack("items", "keys with thousands of items", keys_with_items),
    _attack("all-unread", "20 peers that ask for 10,000 entries and never read", answers_not_read,
           "others: 0000H, 1 entries"),
    _attack("steps", "performed steps by the thousand", many_steps, r"^\d+ × 0000H$"),
    _attack("sets", "20 changes of a MiB to one step", large_sets),
    _attack("references", "commitment of 100,000 instances", many_references,
           "then 0000H, then NEventReportRequest$"),
    _attack("consumer", "a consumer of events that never answers", silent_consumer,
           "others: all told$"),
)  # fmt: skip
