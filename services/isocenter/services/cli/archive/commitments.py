"""``isocenter commitments``: what the archive has promised to keep, and to whom."""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from isocenter.engine.uid import is_safe_uid
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.service_classes.commitment.ports import CommitmentSummary
from isocenter.services.service_classes.commitment.transaction import (
    REASONS,
    Transaction,
    TransactionState,
    result_of,
)
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = "The storage commitments that the archive was asked for."
EXAMPLES: Final = """\
examples:
  isocenter commitments list
  isocenter commitments list --state failed --format json
  isocenter commitments show 2.25.17
  isocenter commitments retry 2.25.17

list and show may run while the server does, and so may retry: it makes the server report the
outcome once more, now, also when it had given up.

exit codes: 0 done, 1 there is no such transaction, 2 arguments or settings"""

_STATES: Final = {state.value: state for state in TransactionState}
_HEAD: Final = (
    "Transaction UID", "requester", "state", "asked", "instances", "failed", "report", "attempts",
    "last fault",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of commitments."""
    for name, action in add_actions(
        parser,
        (
            ("list", "list transactions, the latest first"),
            ("show", "print one transaction with its instances"),
            ("retry", "report the outcome of a transaction once more"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument("--state", choices=tuple(_STATES), help="only those in this state")
            add_limit(action)
        else:
            action.add_argument("uid", metavar="UID", help="Transaction UID")
        if name != "retry":
            action.add_argument(
                "--format", choices=("table", "json"), default="table", help="(default: table)"
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "show": _show, "retry": _retry})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.commitments.rows(
            state=_STATES.get(arguments.state), limit=arguments.limit
        )
    print_rows(rows, as_json=arguments.format == "json", head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(row: CommitmentSummary) -> tuple[str, ...]:
    texts = (
        row.transaction_uid, row.requester, row.state.value, local_time(row.requested_at),
        str(row.references), str(row.failed), row.report, str(row.report_attempts),
        row.report_fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: CommitmentSummary) -> dict[str, object]:
    return {
        "transaction_uid": row.transaction_uid,
        "requester": row.requester,
        "state": row.state.value,
        "requested_at": local_time(row.requested_at),
        "completed_at": local_time(row.completed_at),
        "instances": row.references,
        "failed": row.failed,
        "report": row.report,
        "report_attempts": row.report_attempts,
        "report_fault": row.report_fault,
    }


async def _show(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    uid = _checked(arguments.uid)
    async with composition.open_stores(settings) as stores:
        transaction = await stores.commitments.get(uid)
    if transaction is None:
        return _unknown(uid, terminal)
    out = prepare_stdout(arguments.format)
    failures = transaction.failures or (None,) * len(transaction.references)
    outcomes = [(r, _outcome(f)) for r, f in zip(transaction.references, failures, strict=True)]
    if arguments.format == "json":
        described = _described(transaction) | {
            "instances": [
                {
                    "sop_class_uid": reference.sop_class_uid,
                    "sop_instance_uid": reference.sop_instance_uid,
                    "outcome": outcome,
                }
                for reference, outcome in outcomes
            ]
        }
        out.write(orjson.dumps(described).decode() + "\n")
    else:
        for name, value in _described(transaction).items():
            out.write(f"{name:<16} {shown(value)}\n")
        rows = [(shown(each.sop_instance_uid), outcome) for each, outcome in outcomes]
        print_table(out, ("SOP Instance UID", "outcome"), rows)
    return EXIT_OK


def _described(transaction: Transaction) -> dict[str, str]:
    return {
        "transaction_uid": transaction.transaction_uid,
        "requester": transaction.requester,
        "called_ae_title": transaction.called_ae_title,
        "state": transaction.state.value,
        "requested_at": local_time(transaction.requested_at),
        "completed_at": local_time(transaction.completed_at),
    }


def _outcome(failure: int | None) -> str:
    if failure is None:
        return "pending"
    return f"{failure:04X}H {REASONS.get(failure, '')}".strip() if failure else "committed"


async def _retry(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    uid = _checked(arguments.uid)
    async with composition.open_stores(settings) as stores:
        commitments = stores.commitments
        transaction = await commitments.get(uid)
        if transaction is None:
            return _unknown(uid, terminal)
        if not transaction.called_ae_title:
            terminal.error(
                f"{uid} was asked for over the web, where the outcome is fetched, not reported"
            )
            return EXIT_FAILED
        if transaction.failures is None:
            terminal.error(f"{uid} is pending: there is no outcome to report yet")
            return EXIT_FAILED
        report = result_of(
            transaction, transaction.failures, retrieve_ae_title=settings.server.ae_title
        )
        await commitments.report(report, "", claim_seconds=0.0)
    terminal.note("the server reports it within seconds, or when it is started")
    return EXIT_OK


def _checked(uid: str) -> str:
    if not is_safe_uid(uid):
        raise UsageError(f"{uid!r} is no UID")
    return uid


def _unknown(uid: str, terminal: Terminal) -> int:
    terminal.error(f"there is no transaction {uid}; isocenter commitments list names them")
    return EXIT_FAILED
