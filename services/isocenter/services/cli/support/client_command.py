"""A client command from its options to its exit code: associations, errors, Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import field

import trio

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import (
    AssociationError,
    AssociationRejectedError,
    IsocenterError,
    LocalProtocolError,
    TransportLostError,
)
from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import ExtendedNegotiation, UserIdentity
from isocenter.services.association.operation import Provider
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from isocenter.services.cli.support.network_options import deadlines_of, peer_of, user_identity_of
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import tls_of
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.errors import fault_text
from isocenter.services.net.http.client_errors import ServerUnreachableError
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.service_classes.client import ClientAssociation, open_association


class CannotAssociateError(IsocenterError):
    """No association with the peer: why, and what to do.  Exit code 2."""

    error_code = ErrorCode.CONNECTION_FAILED


@dataclass(slots=True)
class Interrupts:
    """Ctrl-C: once ends what is under way in an orderly manner, twice ends everything."""

    _requested: bool = False
    _scopes: list[trio.CancelScope] = field(default_factory=list)

    def were_requested(self) -> bool:
        """Whether the user wants to stop."""
        return self._requested

    @contextmanager
    def stoppable(self) -> Iterator[trio.CancelScope]:
        """What is inside is cancelled; the association around it lives to say goodbye."""
        with trio.CancelScope() as scope:
            if self._requested:
                scope.cancel()
            self._scopes.append(scope)
            try:
                yield scope
            finally:
                self._scopes.remove(scope)

    def request(self, everything: trio.CancelScope) -> None:
        """The user pressed Ctrl-C."""
        if self._requested or not self._scopes:
            everything.cancel()
        self._requested = True
        for scope in self._scopes:
            scope.cancel()


@dataclass(frozen=True, slots=True)
class Client:
    """One client command while it runs: whom it talks to, and how."""

    peer: Peer
    calling_ae_title: str
    tls: ssl.SSLContext | None
    deadlines: Deadlines
    max_pdu_length: int | None
    user_identity: UserIdentity | None
    terminal: Terminal
    interrupts: Interrupts

    @asynccontextmanager
    async def associate(
        self,
        contexts: Sequence[Context],
        *,
        scp_roles: Iterable[str] = (),
        extended: Sequence[ExtendedNegotiation] = (),
        operations_window: int = 1,
        provider: Provider | None = None,
    ) -> AsyncIterator[ClientAssociation]:
        """`open_association`; what keeps it from being established is `CannotAssociateError`."""
        async with AsyncExitStack() as stack:
            try:
                association = await stack.enter_async_context(
                    open_association(
                        self.peer,
                        contexts,
                        calling_ae_title=self.calling_ae_title,
                        tls=self.tls,
                        scp_roles=scp_roles,
                        extended=extended,
                        operations_window=operations_window,
                        provider=provider,
                        max_pdu_length=self.max_pdu_length,
                        user_identity=self.user_identity,
                        deadlines=self.deadlines,
                    )
                )
            except (AssociationError, LocalProtocolError) as error:
                raise CannotAssociateError(self._explain(error)) from error
            self._check_response(association)
            self.terminal.detail(
                f"associated with {self.peer}: {len(association.contexts)} of {len(contexts)} "
                "presentation contexts accepted"
            )
            yield association
            if self.interrupts.were_requested():
                # Whoever pressed Ctrl-C does not wait for a peer that goes on regardless.
                with trio.move_on_after(self.deadlines.abort):
                    await association.release()
                if not association.ended.is_set():
                    await association.abort()

    def _check_response(self, association: ClientAssociation) -> None:
        """A peer may ignore the user identity item; then it sends no response."""
        asked, accept = self.user_identity, association.accept
        if (
            asked is not None
            and asked.positive_response_requested
            and accept.user_information.user_identity_response is None
        ):
            raise CannotAssociateError(
                "the peer did not confirm the user identity: it ignores such items, or those of "
                "this type; do without -rsp, or set it up there"
            )

    def _explain(self, error: IsocenterError) -> str:
        match error:
            case AssociationRejectedError(source=1, reason=7):
                cure = (
                    f"the peer is not called {self.peer.ae_title}; "
                    "give its AE title with -aec, or as AET@HOST:PORT"
                )
            case AssociationRejectedError(source=1, reason=3):
                cure = (
                    f"admit {self.calling_ae_title} at the peer, or call with -aet as an AE title "
                    "that it knows (over TLS: that of the certificate)"
                )
            case AssociationRejectedError(result=2):
                cure = "try again later"
            case TransportLostError() if self.tls is None:
                cure = "does the peer expect TLS on this port (--tls)?"
            case TransportLostError():
                cure = "does the peer want a certificate (--tls-cert, --tls-key)? See its log"
            case _:
                return str(error)
        return f"{error}; {cure}"


def run_client(
    arguments: argparse.Namespace, work: Callable[[Client, list[str]], Awaitable[int]]
) -> int:
    """Run a client command from its options to its exit code.

    Args:
        work: gets the client and the positional arguments behind the peer; its exit code
            is ours.  `UsageError` and `CannotAssociateError` are 2, other errors 1, Ctrl-C 130.
    """
    terminal = Terminal.of(arguments)

    async def prepared(interrupts: Interrupts) -> int:
        peer, rest = peer_of(arguments)
        client = Client(
            peer=peer,
            calling_ae_title=arguments.aetitle,
            tls=tls_of(arguments),
            deadlines=deadlines_of(arguments),
            max_pdu_length=arguments.max_pdu,
            user_identity=user_identity_of(arguments),
            terminal=terminal,
            interrupts=interrupts,
        )
        return await work(client, rest)

    return run_task(terminal, prepared)


def run_task(terminal: Terminal, work: Callable[[Interrupts], Awaitable[int]]) -> int:
    """Run *work* under trio: errors as one line, Ctrl-C as `Interrupts`."""
    with terminal:
        try:
            with warnings.catch_warnings():
                # What pydicom says of a peer's values names them, and changes nothing.
                warnings.simplefilter("ignore", UserWarning)
                return trio.run(_run, work)
        except (
            UsageError,
            CannotAssociateError,
            ServerUnreachableError,
            KeySyntaxError,
            TlsFileError,
        ) as error:
            terminal.error(fault_text(error))
            return EXIT_USAGE
        except IsocenterError as error:
            terminal.error(fault_text(error))
            return EXIT_FAILED
        except BrokenPipeError:
            raise  # whoever read our output has gone
        except OSError as error:
            terminal.error(fault_text(error))
            return EXIT_FAILED
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED


async def _run(work: Callable[[Interrupts], Awaitable[int]]) -> int:
    interrupts = Interrupts()
    failure: Exception | None = None
    code = EXIT_INTERRUPTED
    async with trio.open_nursery() as nursery:
        if threading.current_thread() is threading.main_thread():
            await nursery.start(_obey_signals, interrupts, nursery.cancel_scope)
        try:
            code = await work(interrupts)
        except Exception as error:
            # The nursery would wrap it.
            failure = error
        nursery.cancel_scope.cancel()
    if interrupts.were_requested():
        return EXIT_INTERRUPTED
    if failure is not None:
        raise failure
    return code


async def _obey_signals(
    interrupts: Interrupts,
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            interrupts.request(everything)
