from __future__ import annotations

from datetime import date

import pytest

from isocenter.services.archive.naming import (
    NamingScheme,
    distinct_key,
    is_distinct,
    object_key,
    sop_instance_uid_of,
)
from services.archive_support import BAD_UIDS


@pytest.mark.parametrize(
    ("scheme", "study_date", "expected"),
    [
        (NamingScheme.UID, "", "1.2/1.3/1.4.dcm"),
        (NamingScheme.FLAT, "", "1.4.dcm"),
        (NamingScheme.DATE, "20240229", "2024/02/29/1.2/1.4.dcm"),
        (NamingScheme.DATE, "2024.02.29", "2024/02/29/1.2/1.4.dcm"),
        (NamingScheme.DATE, "", "2026/11/20/1.2/1.4.dcm"),
        (NamingScheme.DATE, "  ", "2026/11/20/1.2/1.4.dcm"),
        (NamingScheme.DATE, "20230229", "unknown/1.2/1.4.dcm"),
        (NamingScheme.DATE, "../../..", "unknown/1.2/1.4.dcm"),
        (NamingScheme.DATE, "20240101\\20240102", "unknown/1.2/1.4.dcm"),
        (NamingScheme.DATE, "٢٠٢٤٠٢٢٩", "unknown/1.2/1.4.dcm"),
    ],
)
def test_naming_schemes(scheme: NamingScheme, study_date: str, expected: str) -> None:
    key = object_key(
        scheme,
        study_instance_uid="1.2",
        series_instance_uid="1.3",
        sop_instance_uid="1.4",
        study_date=study_date,
        today=date(2026, 11, 20),
    )
    assert key == expected
    assert sop_instance_uid_of(key) == "1.4"
    assert not is_distinct(key)
    other = distinct_key(key, "0123abcd")
    assert other == expected.replace(".dcm", "~0123abcd.dcm")
    assert sop_instance_uid_of(other) == "1.4"
    assert is_distinct(other)


@pytest.mark.parametrize("bad", BAD_UIDS)
def test_no_scheme_takes_a_uid_that_is_none(bad: str) -> None:
    for place in range(3):
        uids = ["1.2", "1.3", "1.4"]
        uids[place] = bad
        with pytest.raises(ValueError, match="not valid"):
            object_key(
                NamingScheme.UID,
                study_instance_uid=uids[0],
                series_instance_uid=uids[1],
                sop_instance_uid=uids[2],
                study_date="",
                today=date(2026, 11, 20),
            )


@pytest.mark.parametrize("key", ["", "x", "1.2", "1.2.dcm.dcm", "1.2~.dcm", "1.2~0123ABCD.dcm"])
def test_keys_that_are_not_ours(key: str) -> None:
    assert sop_instance_uid_of(key) is None
