"""De-identification in the conformance statement: options and projects."""

from __future__ import annotations

from isocenter.services.conformance.deidentification import deidentification
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.description.document import Table

PROJECTS = '[{ name = "trial", options = ["device"], destinations = ["TRIAL"] }]'


def tables(**environ: str) -> list[Table]:
    settings = load_settings(environ=environ)
    return [block for block in deidentification(settings) if isinstance(block, Table)]


def test_every_option_says_in_which_manner() -> None:
    (table,) = tables()
    assert [row[0] for row in table.rows] == [option.meaning for option in Option]
    assert all(row[2] for row in table.rows)


def test_projects_are_named_with_whom_they_are_for() -> None:
    _, table = tables(ISOCENTER__DEIDENTIFICATION=PROJECTS)
    assert table.rows == [("trial", "device", "TRIAL")]
