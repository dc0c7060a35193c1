"""`isocenter dissect`: what two peers said to each other, from a capture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO

from isocenter.engine.negotiation import Role
from isocenter.services.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from isocenter.services.cli.support.match_output import prepare_stdout
from isocenter.services.cli.support.options import port, whole_number
from isocenter.services.diagnostics.capture import MAGIC, read_capture
from isocenter.services.diagnostics.dissect.capture_events import Captured, CaptureError
from isocenter.services.diagnostics.dissect.dissector import DissectionCounts, Dissector
from isocenter.services.diagnostics.dissect.lines import Kind, Line
from isocenter.services.diagnostics.dissect.pcap import MAGICS, read_segments
from isocenter.services.diagnostics.dissect.tcp_reassembly import Reassembler
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.errors import text_of
from isocenter.services.system.log_format import escape

DESCRIPTION: Final = """\
Read what two peers said to each other from a capture, and say what went wrong: PDUs, DIMSE
messages, the states of both sides (PS3.8 Table 9-10), and for each fault the clause of the
standard and what to change.  FILE is a network capture (pcap or pcapng: tcpdump, Wireshark;
needs the extra: pip install 'isocenter[dissect]') or a capture of isocenter serve --capture.

No attribute values are shown unless --show-phi asks for those of identifiers."""
EXAMPLES: Final = """\
examples:
  tcpdump -i any -s 0 -w talk.pcap tcp port 104     then, with the file:
  isocenter dissect talk.pcap
  isocenter dissect talk.pcap --association 2 --pdvs
  isocenter dissect talk.pcapng --port 104 --format json
  isocenter dissect captures/20260102T101500Z-4711-000001.isocapture --show-phi

exit codes: 0 nothing failed, 1 something went wrong in the conversation,
2 the file cannot be read, or there is no association in it"""

_MOST_ASSOCIATIONS: Final = 1_000_000
_ARROWS: Final = {Role.REQUESTOR: "→", Role.ACCEPTOR: "←", None: " "}
_HEADING: Final = "         seconds  requestor acceptor"
#: Below a text: the columns of number, time, arrow and states.
_INDENT: Final = " " * 40
#: Lines below one line, unless all are wanted: 128 presentation contexts are a page.
_MOST_DETAILS: Final = 12


class _Writer(Protocol):
    def line(self, number: int, line: Line) -> None: ...

    def summary(self, tally: DissectionCounts) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, what of it, and how."""
    parser.set_defaults(prog=parser.prog)
    parser.add_argument("file", type=Path, metavar="FILE", help="the capture")
    parser.add_argument(
        "--association",
        type=whole_number(1, _MOST_ASSOCIATIONS),
        metavar="N",
        help="only the Nth association of the file",
    )
    parser.add_argument(
        "--port", type=port, metavar="N", help="only connections with this port at either end"
    )
    parser.add_argument(
        "--pdvs", action="store_true", help="a line for each P-DATA-TF and PDV, too"
    )
    parser.add_argument(
        "--all-details",
        action="store_true",
        help="all presentation contexts and elements, however many",
    )
    parser.add_argument(
        "--show-phi",
        action="store_true",
        help="the values in identifiers and other small data sets, too: names, IDs and dates of "
        "patients",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: one object on each line (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it; 0 nothing failed, 1 something did, 2 it cannot be read."""
    dissector = Dissector(
        association=arguments.association,
        port=arguments.port,
        show_phi=arguments.show_phi,
        show_pdvs=arguments.pdvs,
    )
    out = prepare_stdout(arguments.format)
    most = None if arguments.all_details else _MOST_DETAILS
    writer: _Writer = _Json(out) if arguments.format == "json" else _Text(out, most_details=most)
    failure = ""
    try:
        with arguments.file.open("rb") as file:
            for item in _read(file, str(arguments.file)):
                for number, line in dissector.take(item):
                    writer.line(number, line)
    except CaptureError as error:
        failure = str(error)
    except OSError as error:
        failure = f"cannot read {arguments.file}: {text_of(error)}"
    tally = dissector.tally
    if tally.associations or tally.tls or tally.beheaded:
        writer.summary(tally)
    out.flush()
    failure = failure or _nothing(arguments, tally)
    if failure:
        print(escape(f"{arguments.prog}: {failure}"), file=sys.stderr)
        return EXIT_USAGE
    return EXIT_FAILED if tally.findings[Severity.ERROR] else EXIT_OK


def _read(file: BinaryIO, name: str) -> Iterator[Captured]:
    head = file.read(len(MAGIC))
    file.seek(0)
    if head == MAGIC:
        yield from read_capture(file, name)
    elif head.startswith(MAGICS):
        yield from _reassembled(file, name)
    else:
        raise CaptureError(
            f"{name}: neither a network capture (pcap, pcapng) nor one of isocenter serve"
        )


def _reassembled(file: BinaryIO, name: str) -> Iterator[Captured]:
    reassembler = Reassembler()
    failure: CaptureError | None = None
    try:
        for segment in read_segments(file, name):
            yield from reassembler.feed(segment)
    except CaptureError as error:
        failure = error
    yield from reassembler.finish()
    if failure is not None:
        raise failure


def _nothing(arguments: argparse.Namespace, tally: DissectionCounts) -> str:
    """Why nothing was shown; empty: something was."""
    wanted = arguments.association
    if wanted is not None and wanted > tally.associations:
        return f"there is no association {wanted}; the capture has {tally.associations}"
    if tally.associations:
        return ""
    text = "there is no association in it"
    if tally.tls:
        return f"{text} that can be read, only TLS"
    if tally.beheaded:
        return f"{text} from its beginning: start the capture before the association"
    if arguments.port is not None:
        return f"{text} on port {arguments.port}"
    return text


class _Text:
    """Lines for people."""

    def __init__(self, out: TextIO, *, most_details: int | None) -> None:
        self._out = out
        self._most_details = most_details
        self._is_first = True

    def line(self, number: int, line: Line) -> None:
        """One thing that happened, with its details and findings below it."""
        if line.kind is Kind.OPENED:
            what = f"association {number}: " if number else ""
            self._print(f"{what}{line.text}")
            if self._is_first and number:
                self._print(_HEADING)
                self._is_first = False
        else:
            states = f"{line.requestor or '?':<9} {line.acceptor or '?':<8}"
            when = f"#{number:<4}{line.time:11.6f} {_ARROWS[line.sender]}"
            self._print(f"{when} {states} {line.text}")
        for detail in line.details[: self._most_details]:
            self._print(f"{_INDENT}  {detail}")
        if self._most_details is not None and len(line.details) > self._most_details:
            more = len(line.details) - self._most_details
            self._print(f"{_INDENT}  … and {more} more lines (--all-details)")
        for finding in line.findings:
            clause = f" ({finding.clause})" if finding.clause else ""
            self._print(f"{_INDENT}{finding.severity.value.upper()}: {finding.text}{clause}")
            if finding.cure:
                self._print(f"{_INDENT}  cure: {finding.cure}")

    def summary(self, tally: DissectionCounts) -> None:
        """How much it was."""
        counts = ", ".join(
            _count(count, severity.value) for severity, count in tally.findings.items()
        )
        self._print(f"{_count(tally.associations, 'association')}; {counts}")
        if tally.tls:
            self._print(f"{_count(tally.tls, 'TLS connection')} cannot be read")
        if tally.beheaded:
            self._print(f"{_count(tally.beheaded, 'connection')} began before the capture")

    def _print(self, text: str) -> None:
        print(escape(text), file=self._out)


class _Json:
    """One JSON object on each line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, number: int, line: Line) -> None:
        """One thing that happened."""
        self._print(
            {
                "association": number or None,
                "kind": line.kind.value,
                "seconds": round(line.time, 9),
                "from": line.sender.name.lower() if line.sender is not None else None,
                "text": line.text,
                "requestor": str(line.requestor) if line.requestor is not None else None,
                "acceptor": str(line.acceptor) if line.acceptor is not None else None,
                "details": line.details,
                "findings": [
                    {
                        "severity": finding.severity.value,
                        "text": finding.text,
                        "clause": finding.clause or None,
                        "cure": finding.cure or None,
                    }
                    for finding in line.findings
                ],
            }
        )

    def summary(self, tally: DissectionCounts) -> None:
        """How much it was."""
        self._print(
            {
                "kind": "summary",
                "associations": tally.associations,
                "tls_connections": tally.tls,
                "connections_without_beginning": tally.beheaded,
                "findings": {severity.value: count for severity, count in tally.findings.items()},
            }
        )

    def _print(self, entry: dict[str, object]) -> None:
        print(json.dumps(entry), file=self._out)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
