"""Output of movescu and getscu: progress, and the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from isocenter.engine.dimse.status import Status, StatusClass, classify, describe_status
from isocenter.services.cli.support.terminal import Advance, Terminal
from isocenter.services.service_classes.client import (
    RetrieveError,
    RetrieveProgress,
    RetrieveResult,
)
from isocenter.services.service_classes.storage.object_folder import ObjectFolder

#: Failed SOP instances that are named without ``-v``.
_NAMED: Final = 10

Retrieve = Callable[[Callable[[RetrieveProgress], None]], Awaitable[RetrieveResult]]


def follow(advance: Advance) -> Callable[[RetrieveProgress], None]:
    """Shows the counters of pending responses."""

    def show(progress: RetrieveProgress) -> None:
        counters = (progress.completed, progress.failed, progress.warning)
        done = sum(counter or 0 for counter in counters)
        advance(done, None if progress.remaining is None else done + progress.remaining)

    return show


async def outcome_of(retrieval: Awaitable[RetrieveResult]) -> RetrieveResult:
    """What a retrieval came to, for whoever tells both successes and failures."""
    try:
        return await retrieval
    except RetrieveError as error:
        return error.result


def report_outcome(
    result: RetrieveResult, terminal: Terminal, folder: ObjectFolder | None, advice: str
) -> bool:
    """Tell what a retrieval came to; whether it is all that was asked for."""
    text = f"{result.completed} completed"
    for count, what in ((result.warning, "with a warning"), (result.failed, "failed")):
        if count:
            text += f", {count} {what}"
    if folder is not None:
        received = folder.counts
        text += f"; {received.written} files written"
        if received.kept:
            text += f", {received.kept} were there already (--overwrite replaces them)"
        for uid, reason in received.failures:
            terminal.error(f"{uid}: {reason}")
    terminal.note(text)
    kind = classify(result.status)
    if kind is StatusClass.SUCCESS and not result.failed:
        if not (result.completed or result.warning):
            terminal.error("nothing matched; see what the peer has with isocenter findscu")
            return False
        return True
    reason = describe_answer(result.status, result.comment)
    cure = advice if result.failed else _CURES.get(result.status, "")
    terminal.error(f"the peer answered {reason}" + (f"; {cure}" if cure else ""))
    shown = result.failed_uids if terminal.is_verbose else result.failed_uids[:_NAMED]
    for uid in shown:
        terminal.note(f"failed: {uid}")
    if len(result.failed_uids) > len(shown):
        terminal.note(f"{len(result.failed_uids) - len(shown)} more failed; -v names all")
    return False


def describe_answer(status: int, comment: str) -> str:
    """A status and the peer's Error Comment, for people."""
    text = f"{status:04X}H {describe_status(status)}"
    return f"{text}: {comment}" if comment and comment not in text else text


_CURES: Final[dict[int, str]] = {
    Status.MOVE_DESTINATION_UNKNOWN: (
        "the peer has no address for the destination; make it known there "
        "(isocenter serve --peer AET@HOST:PORT)"
    ),
    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS: (
        "name the entities above the level (--patient-id with -P, --study-uid, --series-uid), "
        "or try the other model (-P, -S)"
    ),
}
