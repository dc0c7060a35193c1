"""``isocenter doctor``: find faults here or between us and a peer."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

import trio

from isocenter.services import composition
from isocenter.services.archive.verification import VerificationProgress, verify
from isocenter.services.association.peer import Peer
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.diagnose.doctor_output import JsonOutput, Output, TextOutput
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.network_options import (
    add_network_options,
    deadlines_of,
    peer_of,
)
from isocenter.services.cli.support.options import UsageError, add_archive_options, ae_title, port
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import receiving_tls_of, tls_of
from isocenter.services.composition.examination import examine
from isocenter.services.diagnostics.doctor.archive import assess_verification
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.move_destination import Destination
from isocenter.services.diagnostics.doctor.peer import PeerCheckOptions, check_peer
from isocenter.services.diagnostics.doctor.server_health import check_health, server_of
from isocenter.services.diagnostics.findings import Side, error
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import overrides_from
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Find out what is wrong.  Without a peer: the installation of the archive here, from its
settings to its objects.  With one: everything from the name of its host to C-ECHO, and what
to change on which side when it does not work.  Nothing is changed or repaired; --store alone
leaves an image with the peer."""
EXAMPLES: Final = """\
examples:
  isocenter doctor
  isocenter doctor --config /etc/isocenter/isocenter.toml --thorough
  isocenter doctor PACS@10.0.0.5:104
  isocenter doctor PACS@pacs:2762 -aet CT1 --tls-cert ct1.crt --tls-key ct1.key --tls-ca ca.crt
  isocenter doctor PACS@10.0.0.5:104 --find --move-to CT1 --move-port 11113 -aet CT1
  isocenter doctor --json

exit codes: 0 all is well, 1 there are problems, 2 arguments"""

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # whoever gives --move-to wants others to connect
#: For a DIMSE response where ``-td`` sets no other limit: nobody examines for ever.
_RESPONSE_SECONDS: Final = 30.0


def add_arguments(parser: CommandParser) -> None:
    """The options of doctor."""
    add_network_options(parser, calling="DOCTOR", timeout=10, is_optional=True)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on each line, the last a summary"
    )
    add_archive_options(parser)
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="here: compare every object with the index, by checksum; with a peer: try every "
        "transfer syntax with every storage SOP class",
    )
    group = parser.add_argument_group("with a peer, when asked for")
    group.add_argument("--find", action="store_true", help="ask for a study that cannot exist")
    group.add_argument(
        "--store",
        action="store_true",
        help="send a made-up image; it stays there, as of patient ISOCENTER-DOCTOR",
    )
    group.add_argument(
        "--move-to",
        type=ae_title,
        metavar="AET",
        help="have the peer send one object to this AE title, which is us meanwhile",
    )
    group.add_argument(
        "--move-port", type=port, metavar="N", help="where the peer believes that it listens"
    )
    group.add_argument(
        "--move-host",
        default=_EVERYWHERE,
        metavar="H",
        help="address to receive at (default: %(default)s)",
    )
    group.add_argument(
        "--move-tls",
        action="store_true",
        help="receive over TLS, with --tls-cert, --tls-key and --tls-ca",
    )
    group.add_argument(
        "--study-uid", default="", metavar="UID", help="the study to move (default: one object)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Examine; the exit code."""
    terminal = Terminal.of(arguments)
    output: Output = JsonOutput() if arguments.json else TextOutput(terminal)

    async def work(interrupts: Interrupts) -> int:
        with interrupts.stoppable():
            if arguments.peer:
                await _check_peer(arguments, output)
            else:
                await _check_here(arguments, terminal, output)
        if interrupts.were_requested():
            return EXIT_INTERRUPTED
        output.summary()
        return EXIT_FAILED if output.problems else EXIT_OK

    return run_task(terminal, work)


async def _check_here(arguments: argparse.Namespace, terminal: Terminal, output: Output) -> None:
    try:
        settings = load_settings(arguments.config, overrides=overrides_from(arguments))
    except SettingsError as fault:
        finding = error(str(fault), meaning="isocenter serve does not start", side=Side.HERE)
        output.write(CheckResult("settings", fault.source, (finding,)))
        return
    can_compare = await examine(settings, output.write)
    if arguments.thorough and can_compare:
        output.write(await _compare_all(settings, terminal))


async def _check_peer(arguments: argparse.Namespace, output: Output) -> None:
    peer, rest = peer_of(arguments)
    if rest:
        raise UsageError(f"{rest[0]!r} is one argument too many")
    destination = _destination(arguments)
    try:
        tls = tls_of(arguments)
    except TlsFileError as fault:
        finding = error(str(fault), cure=fault.cure, side=Side.HERE)
        output.write(CheckResult("our certificate", str(fault.path or ""), (finding,)))
        return
    settings = _settings_of_self(arguments, peer)
    if settings is not None:
        output.write(await trio.to_thread.run_sync(check_health, settings))
    deadlines = deadlines_of(arguments)
    if math.isinf(deadlines.response):
        deadlines = replace(deadlines, response=_RESPONSE_SECONDS)
    way = PeerTarget(
        peer=peer,
        calling_ae_title=arguments.aetitle,
        tls=tls,
        deadlines=deadlines,
        max_pdu_length=arguments.max_pdu,
        is_self=settings is not None,
    )
    wishes = PeerCheckOptions(
        thorough=arguments.thorough,
        find=arguments.find,
        store=arguments.store,
        move_to=destination,
    )
    await check_peer(way, output.write, wishes)


def _settings_of_self(arguments: argparse.Namespace, peer: Peer) -> Settings | None:
    """The settings of the archive here, when that is the peer; None: it is another one."""
    try:
        settings = load_settings(arguments.config, overrides=overrides_from(arguments))
        is_here = ip_address(peer.host).is_loopback if peer.host != "localhost" else True
    except (SettingsError, ValueError):
        return None
    ports = {
        port
        for port, enabled in (
            (settings.server.port, settings.plain.enabled),
            (settings.tls.port, settings.tls.enabled),
        )
        if enabled
    }
    is_self = is_here and peer.port in ports and not settings.storage.is_in_memory
    return settings if is_self and server_of(settings) is not None else None


def _destination(arguments: argparse.Namespace) -> Destination | None:
    if arguments.move_to is None:
        if arguments.move_port is not None or arguments.study_uid or arguments.move_tls:
            raise UsageError("--move-port, --move-tls and --study-uid go with --move-to AET")
        return None
    if arguments.move_port is None:
        raise UsageError("--move-to needs --move-port: the one that the peer has for this AE title")
    return Destination(
        ae_title=arguments.move_to,
        host=arguments.move_host,
        port=arguments.move_port,
        study_uid=arguments.study_uid,
        tls=receiving_tls_of(arguments) if arguments.move_tls else None,
    )


async def _compare_all(settings: Settings, terminal: Terminal) -> CheckResult:
    with terminal.progress("comparing") as advance:

        def show(progress: VerificationProgress) -> None:
            advance(progress.done, progress.total)

        async with composition.open_archive(settings, lock=False, recover=False) as archive:
            return assess_verification(await verify(archive, progress=show))
