"""``isocenter reconciliation``: what other systems demanded of patients, and what came of it."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services import composition
from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import shown
from isocenter.services.cli.support.options import add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.reconciliation.values import Attempt, Identifier, PatientLink

DESCRIPTION: Final = """\
What other systems said of patients in HL7 ADT messages: every attempt with what came of it, also
those that failed, and the patients who are linked.  Each is done by corrections, which isocenter
corrections undo takes back by their number."""
EXAMPLES: Final = """\
examples:
  isocenter reconciliation list
  isocenter reconciliation list --patient 4711 --json
  isocenter reconciliation links

exit codes: 0 done, 2 arguments or settings"""

_HEAD: Final = (
    "number", "at", "what", "patient", "other", "outcome", "instances", "corrections", "by",
    "message", "fault",
)  # fmt: skip
_LINKS: Final = ("patient", "other", "since", "by")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of reconciliation."""
    for _, action in add_actions(
        parser,
        (
            ("list", "list attempts, the latest first"),
            ("links", "list linked patients, the latest first"),
        ),
    ):
        add_archive_options(action)
        add_limit(action)
        action.add_argument(
            "--patient", default="", metavar="ID", help="only those that name this Patient ID"
        )
        action.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "links": _links})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.reconciliation.attempts(
            patient_id=arguments.patient, limit=arguments.limit
        )
    print_rows(rows, as_json=arguments.json, head=_HEAD, line=_line, members=_json)
    return EXIT_OK


async def _links(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.reconciliation.links(
            patient_id=arguments.patient, limit=arguments.limit
        )
    print_rows(rows, as_json=arguments.json, head=_LINKS, line=_link_line, members=_link_json)
    return EXIT_OK


def _text(one: Identifier) -> str:
    return f"{one.patient_id} ({one.issuer})" if one.issuer else one.patient_id


def _line(row: Attempt) -> tuple[str, ...]:
    texts = (
        str(row.number), local_time(row.at), row.kind.value, _text(row.patient), _text(row.other),
        row.outcome.value, str(row.instances), " ".join(map(str, row.corrections)), row.actor,
        row.message, row.fault,
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: Attempt) -> dict[str, object]:
    return {
        "number": row.number,
        "at": local_time(row.at),
        "what": row.kind.value,
        "patient_id": row.patient.patient_id,
        "issuer": row.patient.issuer,
        "other_patient_id": row.other.patient_id,
        "other_issuer": row.other.issuer,
        "outcome": row.outcome.value,
        "instances": row.instances,
        "corrections": list(row.corrections),
        "by": row.actor,
        "message": row.message,
        "fault": row.fault,
    }


def _link_line(row: PatientLink) -> tuple[str, ...]:
    texts = (_text(row.one), _text(row.other), local_time(row.at), row.actor)
    return tuple(map(shown, texts))


def _link_json(row: PatientLink) -> dict[str, object]:
    return {
        "patient_id": row.one.patient_id,
        "issuer": row.one.issuer,
        "other_patient_id": row.other.patient_id,
        "other_issuer": row.other.issuer,
        "since": local_time(row.at),
        "by": row.actor,
    }
