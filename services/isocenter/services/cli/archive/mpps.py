"""``isocenter mpps``: the performed procedure steps that the archive knows."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.engine.uid import is_safe_uid
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import add_limit, print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import (
    Match,
    prepare_stdout,
    shown,
    writer_of,
)
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.ports import StepSummary
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = "The modality performed procedure steps that the archive was told of."
EXAMPLES: Final = """\
examples:
  isocenter mpps list
  isocenter mpps list --state in-progress --data-dir /srv/isocenter
  isocenter mpps list --study 1.2.3 --format json
  isocenter mpps show 2.25.17

Both may run while the server does.  show prints what the modality sent: it holds PHI.

exit codes: 0 done, 1 there is no such step, 2 arguments or settings"""

_STATES: Final = {state.value.lower().replace(" ", "-"): state for state in StepState}
_HEAD: Final = (
    "SOP Instance UID", "state", "station", "modality", "step ID", "started", "series",
    "instances", "arrived",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of mpps."""
    for name, action in add_actions(
        parser, (("list", "list steps, the latest first"), ("show", "print one step"))
    ):
        add_archive_options(action)
        if name == "show":
            action.add_argument("uid", metavar="UID", help="SOP Instance UID of the step")
            formats, default = ("text", "json"), "text"
        else:
            action.add_argument("--state", choices=tuple(_STATES), help="only steps in this state")
            action.add_argument("--study", metavar="UID", help="only steps for this study")
            add_limit(action)
            formats, default = ("table", "json"), "table"
        action.add_argument(
            "--format", choices=formats, default=default, help="(default: %(default)s)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"list": _list, "show": _show})


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    async with composition.open_stores(settings) as stores:
        rows = await stores.steps.rows(
            state=_STATES.get(arguments.state),
            study_instance_uid=arguments.study,
            limit=arguments.limit,
        )
    print_rows(rows, as_json=arguments.format == "json", head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(row: StepSummary) -> tuple[str, ...]:
    texts = (
        row.sop_instance_uid, row.state.value, row.station_ae_title, row.modality,
        row.performed_step_id, f"{row.start_date} {row.start_time}", str(row.series),
        str(row.instances), str(row.arrived),
    )  # fmt: skip
    return tuple(map(shown, texts))


def _json(row: StepSummary) -> dict[str, object]:
    return {
        "sop_instance_uid": row.sop_instance_uid,
        "state": row.state.value,
        "source_ae_title": row.source_ae_title,
        "station_ae_title": row.station_ae_title,
        "modality": row.modality,
        "performed_step_id": row.performed_step_id,
        "start_date": row.start_date,
        "start_time": row.start_time,
        "changed_at": local_time(row.changed_at),
        "study_instance_uids": row.studies,
        "series": row.series,
        "instances": row.instances,
        "arrived": row.arrived,
    }


async def _show(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    if not is_safe_uid(arguments.uid):
        raise UsageError(f"{arguments.uid!r} is no UID")
    async with composition.open_stores(settings) as stores:
        step = await stores.steps.get(arguments.uid)
    if step is None:
        terminal.error(f"there is no step {arguments.uid}; isocenter mpps list names them")
        return EXIT_FAILED
    writer = writer_of(arguments.format, prepare_stdout(arguments.format), ())
    writer.write(Match.of_attributes(step.attributes))
    writer.finish()
    return EXIT_OK
