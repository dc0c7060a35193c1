"""Network captures, pcap and pcapng, as TCP segments; read with dpkt (extra ``dissect``).

Link types: Ethernet (with VLAN tags), Linux cooked (SLL, SLL2), BSD loopback, raw IP.
IPv4 and IPv6.  Of a pcapng file with several interfaces, all are read as the first one's
link type.  Packets that are no TCP, or damaged, are left out; IP fragments, too.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from ipaddress import ip_address
from typing import Any, BinaryIO, Final

from isocenter.services.diagnostics.dissect.capture_events import CaptureError
from isocenter.services.diagnostics.dissect.tcp_reassembly import Segment

#: What a capture file begins with: pcap in both byte orders, with micro- and nanoseconds, and
#: as Kuznetsov wrote it; pcapng.
MAGICS: Final = (
    b"\xa1\xb2\xc3\xd4",
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
    b"\x4d\x3c\xb2\xa1",
    b"\xa1\xb2\xcd\x34",
    b"\x34\xcd\xb2\xa1",
    b"\x0a\x0d\x0d\x0a",
)
#: No packet is longer, nor any block of a pcapng file.
_LONGEST_READ: Final = 1 << 24
_MISSING_EXTRA: Final = (
    "network captures are read with dpkt, which is not installed: pip install 'isocenter[dissect]'"
)
#: What dpkt's parts raise for a packet that is not what its headers say, beside its own error.
_DAMAGED: Final = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError)
_FRAGMENT: Final = 0x3FFF  # more fragments, and the offset
_FRAGMENT_HEADER: Final = 44


class _Bounded(io.RawIOBase):
    """A file that reads no more at once than a packet can have, and knows where it was cut."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__()
        self._file = file
        self._name = name
        self.is_cut = False

    def read(self, size: int = -1, /) -> bytes:
        """*size* bytes, or fewer at the end."""
        if not 0 <= size <= _LONGEST_READ:
            raise CaptureError(f"{self._name}: damaged: a packet of {size} bytes")
        data = self._file.read(size)
        if data and len(data) < size:
            self.is_cut = True
        return data


def read_segments(file: BinaryIO, name: str) -> Iterator[Segment]:
    """The TCP segments of a network capture.

    Raises:
        CaptureError: dpkt is not installed, or the file is none, of an unknown link type,
            damaged or cut short; what could be read of it was yielded.
    """
    try:
        dpkt: Any = import_module("dpkt")  # has no types, and need not be there
    except ImportError as error:
        raise CaptureError(_MISSING_EXTRA) from error
    head = file.read(4)
    file.seek(0)
    bounded = _Bounded(file, name)
    try:
        reader = (dpkt.pcapng if head == MAGICS[-1] else dpkt.pcap).Reader(bounded)
    except (dpkt.Error, *_DAMAGED) as error:
        raise CaptureError(f"{name}: a network capture whose header is damaged") from error
    of_link = _links(dpkt).get(reader.datalink())
    if of_link is None:
        raise CaptureError(
            f"{name}: captured on a link of type {reader.datalink()}; there are Ethernet, "
            "Linux cooked, loopback and raw IP"
        )
    packets = iter(reader)
    while True:
        try:
            time, packet = next(packets)
        except StopIteration:
            break
        except (dpkt.Error, *_DAMAGED) as error:
            what = "cut short" if bounded.is_cut else "damaged"
            raise CaptureError(f"{name}: {what}; what stands before was read") from error
        try:
            segment = _segment(dpkt, float(time), of_link(packet))
        except (dpkt.Error, *_DAMAGED):
            continue  # not TCP over IP, whatever it says
        if segment is not None:
            yield segment
    if bounded.is_cut:
        raise CaptureError(f"{name}: cut short; what stands before was read")


def _links(dpkt: Any) -> dict[int, Any]:
    """Link type → what makes an IP packet, or another one, of a frame."""

    def raw(packet: bytes) -> Any:
        return (dpkt.ip6.IP6 if packet[0] >> 4 == 6 else dpkt.ip.IP)(packet)

    return {
        0: lambda packet: dpkt.loopback.Loopback(packet).data,  # BSD loopback
        1: lambda packet: dpkt.ethernet.Ethernet(packet).data,
        12: raw,  # raw IP, as some systems number it
        14: raw,
        101: raw,
        108: lambda packet: dpkt.loopback.Loopback(packet).data,  # OpenBSD loopback
        113: lambda packet: dpkt.sll.SLL(packet).data,
        228: raw,
        229: raw,
        276: lambda packet: dpkt.sll2.SLL2(packet).data,
    }


def _segment(dpkt: Any, time: float, packet: Any) -> Segment | None:
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
        return None
    if isinstance(packet, dpkt.ip.IP):
        if packet._flags_offset & _FRAGMENT:
            return None
    elif _FRAGMENT_HEADER in packet.extension_hdrs:
        return None
    tcp = packet.data
    if not isinstance(tcp, dpkt.tcp.TCP):
        return None
    return Segment(
        time,
        _address(packet.src, tcp.sport),
        _address(packet.dst, tcp.dport),
        tcp.seq,
        tcp.ack,
        tcp.flags,
        bytes(tcp.data),
    )


@lru_cache(maxsize=4096)
def _address(packed: bytes, port: int) -> str:
    host = ip_address(packed)
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"
