"""``isocenter movescu``: have a peer send objects somewhere (PS3.4 C.4.2), also to us."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.server import Server, ServerOptions, serve_on
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.options import UsageError, ae_title, port
from isocenter.services.cli.support.query_options import MODELS, add_query_options, requests_of
from isocenter.services.cli.support.received_files import add_receiving_options, folder_of
from isocenter.services.cli.support.retrieve_output import follow, outcome_of, report_outcome
from isocenter.services.cli.support.tls_options import receiving_tls_of
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import text_of
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.service_classes.storage.object_folder import ObjectFolder, ReceivedCounts
from isocenter.services.service_classes.verification import VerificationScp

DESCRIPTION: Final = """\
Have a peer send objects to a destination that it knows by its AE title (C-MOVE).  With
--port we are the destination: objects come to that port and are written into files."""
EXAMPLES: Final = """\
examples:
  isocenter movescu ISOCENTER@localhost:11112 -aem VIEWER --study-uid 1.2.3
  isocenter movescu -aet ME -aem ME --port 11113 -od downloads -S -L STUDY \\
                    -k StudyInstanceUID=1.2.3 -aec ISOCENTER archive 11112

The peer sends to the address that it has for the AE title of -aem, for our server one of
isocenter serve --peer AET@HOST:PORT.

exit codes: 0 all were sent, 1 some were not, 2 arguments or no association"""

#: For the peer's associations to end after the last object.
_GOODBYE_SECONDS: Final = 5.0
_ADVICE: Final = "the log of the peer tells why it could not send them to the destination"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # whoever gives --port wants others to connect


def add_arguments(parser: CommandParser) -> None:
    """The options of movescu."""
    add_network_options(parser, calling="MOVESCU", timeout=60, what_follows="QUERY-FILE …")
    group = parser.add_argument_group("destination")
    group.add_argument(
        "-aem",
        "--move-dest",
        "--move",
        type=ae_title,
        metavar="AET",
        help="where to send; with --port the default is the calling AE title",
    )
    group.add_argument(
        "+P", "--port", type=port, metavar="N", help="receive here, on this port, in the clear"
    )
    group.add_argument(
        "--receive-host",
        default=EVERYWHERE,
        metavar="H",
        help="address to receive at (default: %(default)s)",
    )
    group.add_argument(
        "--receive-tls",
        action="store_true",
        help="receive over TLS, with --tls-cert, --tls-key and --tls-ca",
    )
    add_query_options(parser)
    add_receiving_options(parser)
    group.add_argument("-p", "--progress", action="store_true", default=True, help="default")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )
    group.add_argument(
        "--ignore-pending",
        dest="progress",
        action="store_false",
        help="show nothing of pending responses",
    )


def run(arguments: argparse.Namespace) -> int:
    """Move; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        destination = arguments.move_dest
        if destination is None:
            if arguments.port is None:
                raise UsageError("where to? Give the destination with -aem, or --port to receive")
            destination = client.calling_ae_title
        requests = requests_of(arguments, rest, retrieve=True)
        contexts = [
            (uid, BASIC_SYNTAXES)
            for uid in dict.fromkeys(MODELS[request.model][1] for request in requests)
        ]
        folder = None if arguments.port is None else _folder(client, arguments)
        good = True
        async with (
            _receiving(arguments, folder, destination),
            client.associate(contexts) as association,
        ):
            with (
                client.terminal.progress("moving", wanted=arguments.progress) as advance,
                client.interrupts.stoppable(),
            ):
                for request in requests:
                    result = await outcome_of(
                        association.move(
                            request.encode,
                            destination,
                            sop_class_uid=MODELS[request.model][1],
                            progress=follow(advance),
                        )
                    )
                    good &= report_outcome(result, client.terminal, folder, _ADVICE)
        if client.interrupts.were_requested():
            client.terminal.note("cancelled")
            return EXIT_INTERRUPTED
        return EXIT_OK if good else EXIT_FAILED

    return run_client(arguments, work)


def _folder(client: Client, arguments: argparse.Namespace) -> ObjectFolder:
    def received(so_far: ReceivedCounts) -> None:
        client.terminal.detail(f"{so_far.written + so_far.kept + so_far.failed} objects came")

    return folder_of(arguments, received)


@asynccontextmanager
async def _receiving(
    arguments: argparse.Namespace, folder: ObjectFolder | None, ae_title: str
) -> AsyncIterator[None]:
    """Our own SCP, when objects come to us."""
    if folder is None:
        yield
        return
    tls = receiving_tls_of(arguments) if arguments.receive_tls else None
    bind = ListenAddress(
        host=arguments.receive_host,
        port=arguments.port,
        tls=None if tls is None else lambda: tls,
    )
    try:
        listeners = [(sock, bind) for sock in open_listener(bind)]
    except OSError as error:
        raise UsageError(text_of(error)) from error
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            partial(
                serve_on,
                ServiceRegistry([VerificationScp(), folder]),
                listeners,
                # The certificate of whoever sends is not that of an AE title we know.
                ServerOptions(
                    access=AeTitleRules(
                        ae_titles=frozenset({ae_title}), certificate_owns_ae_title=False
                    )
                ),
            )
        )
        try:
            yield
            server.stop()
            with trio.move_on_after(_GOODBYE_SECONDS):
                await server.stopped.wait()
        except Exception as error:
            # The nursery would wrap it.
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
