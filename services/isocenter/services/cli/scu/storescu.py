"""``isocenter storescu``: files and folders to a peer (PS3.4 Annex B)."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import StatusClass, classify
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.association.requestor import Context, InvokingAssociation
from isocenter.services.cli import EXIT_INTERRUPTED
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import CannotAssociateError, Client, run_client
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.options import UsageError, check_paths
from isocenter.services.cli.support.retrieve_output import describe_answer
from isocenter.services.cli.support.sent_files import (
    FoundFile,
    ObjectReport,
    SentFiles,
    add_sending_options,
    files_below,
)
from isocenter.services.cli.support.transfer_syntaxes import (
    Groups,
    add_transfer_syntax_options,
    transfer_syntaxes_of,
)
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import (
    NoPresentationContextError,
    OperationError,
    StorageError,
    has_failed,
    text_of,
)
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.retrieve_contexts import contexts_of
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer, store_object

DESCRIPTION: Final = """\
Send files, and all files below folders, to a peer (C-STORE).  What is not DICOM is named
and counted; an object that the peer does not take does not keep the others."""
EXAMPLES: Final = """\
examples:
  isocenter storescu ISOCENTER@localhost:11112 ct.dcm
  isocenter storescu ISOCENTER@localhost:11112 /media/cdrom --report-file report.jsonl
  isocenter storescu -aet CT1 -aec ISOCENTER archive 11112 +sd +r /data --scan-pattern '*.dcm'
  isocenter storescu -aet CT1 -aec ISOCENTER +tls CT1.key CT1.crt +cf ca.crt archive 2762 a.dcm

exit codes: 0 every file that is or could be DICOM was stored, 1 some were not, 2 arguments or no
association"""

_MOST_CONTEXTS: Final = 128


def add_arguments(parser: CommandParser) -> None:
    """The options of storescu."""
    add_network_options(parser, calling="STORESCU", timeout=30, what_follows="PATH …")
    group = add_sending_options(parser)
    group.add_argument(
        "-R", "--required", action="store_true", help="propose only what is needed (always so)"
    )
    group.add_argument(
        "--no-transcode",
        dest="transcode",
        action="store_false",
        help="do not decode objects whose transfer syntax the peer does not take",
    )
    add_transfer_syntax_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send the files; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        if not rest:
            raise UsageError("nothing to send; give files or folders behind the peer")
        check_paths(rest)
        with (
            ObjectReport(arguments.report_file) as report,
            client.terminal.progress("sending", wanted=arguments.progress) as advance,
        ):
            async with CodecPool() as pool:
                sender = _Sender(
                    client,
                    SentFiles(
                        client.terminal,
                        client.interrupts,
                        report,
                        advance,
                        stop_on_error=arguments.stop_on_error,
                    ),
                    syntaxes=transfer_syntaxes_of(arguments),
                    transcoder=Transcoder(pool) if arguments.transcode else None,
                )
                return await sender.send_all(files_below(rest, arguments.scan_pattern))

    return run_client(arguments, work)


# -- Sending -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Sender:
    client: Client
    files: SentFiles
    syntaxes: Groups
    transcoder: Transcoder | None

    async def send_all(self, found: Iterator[FoundFile]) -> int:
        """Send what is DICOM among the files; the exit code."""
        terminal, counts = self.client.terminal, self.files.counts
        started = trio.current_time()
        try:
            async with aclosing(self.files.blocks(found)) as blocks:
                async for objects in blocks:
                    await self._send_block(objects)
        except CannotAssociateError:
            if not counts.sent:
                raise
            terminal.error("the association cannot be established again; the rest was not sent")
            counts.failed += 1
            raise
        finally:
            if counts.seen:
                terminal.note(self.files.summary(trio.current_time() - started))
        if self.client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        return self.files.exit_code()

    def _plan(
        self, objects: Sequence[DicomObject]
    ) -> list[tuple[list[Context], list[DicomObject]]]:
        if not self.syntaxes:
            return plan_associations(
                objects,
                lambda item: (item.sop_class_uid, item.transfer_syntax_uid),
                no_targets if self.transcoder is None else self.transcoder.targets,
            )
        # What the user wants proposed, for as many SOP classes as fit.
        by_class: dict[str, list[DicomObject]] = {}
        for item in objects:
            by_class.setdefault(item.sop_class_uid, []).append(item)
        classes = list(by_class)
        room = max(1, _MOST_CONTEXTS // len(self.syntaxes))
        plans: list[tuple[list[Context], list[DicomObject]]] = []
        for start in range(0, len(classes), room):
            chosen = classes[start : start + room]
            contexts: list[Context] = contexts_of(chosen, self.syntaxes, _MOST_CONTEXTS)
            plans.append((contexts, [item for uid in chosen for item in by_class[uid]]))
        return plans

    async def _send_block(self, objects: Sequence[DicomObject]) -> None:
        for contexts, planned in self._plan(objects):
            if self.files.should_stop():
                return
            transfer = Transfer(
                planned, send=self._send, lose=self._lose, is_over=self.files.should_stop
            )
            await transfer.send_over_associations(partial(self._associate, contexts))
            if isinstance(transfer.fault, CannotAssociateError):
                raise transfer.fault
            if transfer.fault is not None:
                raise CannotAssociateError(
                    f"the peer ends one association after the other: {transfer.fault}"
                )

    @asynccontextmanager
    async def _associate(self, contexts: Sequence[Context]) -> AsyncIterator[ClientAssociation]:
        client = self.client
        window = 1 if self.files.stop_on_error else OPERATIONS_WINDOW
        async with client.associate(contexts, operations_window=window) as association:
            with client.interrupts.stoppable():
                yield association
            if client.interrupts.were_requested():
                await association.abort()  # an object may be half sent

    def _lose(self, item: DicomObject, error: IsocenterError) -> None:
        self._take_down(item, None, str(error), trio.current_time())

    async def _send(self, association: InvokingAssociation, item: DicomObject) -> None:
        """Send one and say what became of it.

        Raises:
            AssociationError: the association ended; nothing is said.
        """
        started = trio.current_time()
        reason = ""
        status: int | None = None
        try:
            response = await store_object(association, item, transcoder=self.transcoder)
            status = response.status
            if classify(status) is StatusClass.WARNING:
                reason = f"the peer answered {describe_answer(status, response.error_comment)}"
        except OperationError as error:
            status = error.status
            reason = f"the peer answered {error}"
        except NoPresentationContextError as error:
            reason = f"{error}; see what the peer is configured to take"
        except (StorageError, DataSetError, PixelError) as error:
            reason = f"cannot be sent: {error}"
        except OSError as error:
            reason = f"cannot be read: {text_of(error)}"
        self._take_down(item, status, reason, started)

    def _take_down(
        self, item: DicomObject, status: int | None, reason: str, started: float
    ) -> None:
        self.files.take_down(
            item,
            is_stored=status is not None and not has_failed(status),
            is_warned=status is not None and classify(status) is StatusClass.WARNING,
            status=status,
            reason=reason,
            seconds=trio.current_time() - started,
        )
