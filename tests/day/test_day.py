"""A department's day, undisturbed, and with a `kill -9` of the archive in each of its steps."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from day.department import department
from day.steps import INSTANCES, Killer, play
from support.studies import ROOT

pytestmark = [
    pytest.mark.interop("storescu", "Orthanc"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

EXPECTED = {
    "entry": {
        "step_id": "SPS1", "step_status": "COMPLETED", "patient_id": "P1", "source": "hl7",
    },
    "step": {
        "state": "COMPLETED", "series": 1, "instances": INSTANCES, "arrived": INSTANCES,
    },
    "commitment": {"state": "success", "instances": INSTANCES, "failed": 0},
    "promise": (INSTANCES, 0),
    "objects": sorted(f"{ROOT}.1.1.{number}" for number in range(1, INSTANCES + 1)),
    "studies complete": [f"{ROOT}.1"],
    "at Orthanc": INSTANCES,
    "as sent": [True, True],
}  # fmt: skip
#: What happens on the day: eight steps that are killed, the forwarding, and the webhook.
LEAST_KILLS = 8


def test_an_undisturbed_day(tmp_path: Path) -> None:
    with department(tmp_path) as made:
        assert play(made) == EXPECTED
        assert (made.starts, made.kills) == (1, 0)


def test_a_day_of_kills_ends_the_same(tmp_path: Path) -> None:
    """One of them; more by `python -m tests.day SEED COUNT`."""
    with department(tmp_path) as made:
        assert play(made, Killer(Random(1)).during) == EXPECTED
        assert made.kills >= LEAST_KILLS
