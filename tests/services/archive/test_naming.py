from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.object_keys import (
    NamingScheme,
    can_be_named,
    distinct_key,
    is_distinct,
    name_of_uid,
    object_key,
    sop_instance_uid_of,
)
from isocenter.storage.objects.keys import check_object_key
from services.archive_support import BAD_UIDS, ODD_UIDS


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


@pytest.mark.parametrize("key", ["", "x", "1.2", "1.2~.dcm", "1.2~0123ABCD.dcm"])
def test_keys_that_are_not_ours(key: str) -> None:
    assert sop_instance_uid_of(key) is None


# -- UIDs that break the rules -----------------------------------------------------------

SIGNS = "".join(map(chr, range(0x20, 0x7F)))
safe_uids = st.text(SIGNS, min_size=1, max_size=64).filter(can_be_named) | st.sampled_from(ODD_UIDS)


def key_of(scheme: NamingScheme, study: str, series: str, instance: str, date_: str = "") -> str:
    return object_key(
        scheme,
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=instance,
        study_date=date_,
        today=date(2026, 11, 20),
    )


@pytest.mark.parametrize(
    ("odd", "name"),
    [
        ("1.2.a", "1.2.a"),
        ("1.2.A", "1.2._a"),
        ("1.2.ABc", "1.2._ab_c"),
        ("1.2.", "1.2_2e"),
        ("1..2", "1..2"),
        ("...", "_2e._2e"),
        ("a_b", "a_5fb"),
        ("a:b", "a_3ab"),
        ("1.2~0123abcd", "1.2_7e0123abcd"),
    ],
)
def test_names_of_odd_uids(odd: str, name: str) -> None:
    assert name_of_uid(odd) == name
    assert sop_instance_uid_of(f"1/2/{name}.dcm") == odd
    assert sop_instance_uid_of(f"{name}~0123abcd.dcm") == odd


@pytest.mark.parametrize("scheme", NamingScheme)
@given(study=safe_uids, series=safe_uids, instance=safe_uids)
def test_keys_of_odd_uids_are_keys(
    scheme: NamingScheme, study: str, series: str, instance: str
) -> None:
    """With the longest area, and the longest mark, in front and behind."""
    key = key_of(scheme, study, series, instance, "x")
    assert sop_instance_uid_of(key) == instance
    other = distinct_key(key, "0123abcd")
    assert sop_instance_uid_of(other) == instance
    check_object_key(f"{'a' * 22}/{other}")
    for part in key.split("/"):
        assert part == part.lower()
        assert not part.startswith(".")
        assert len(part) <= 130 + len(".dcm")


@given(one=safe_uids, other=safe_uids)
def test_no_two_uids_have_one_name(one: str, other: str) -> None:
    """Also where the file system makes no difference between capital and small letters."""
    for a, b in ((one, other), (one, one.swapcase()), (one, one.lower()), (one, one + ".")):
        if a != b and can_be_named(b):
            assert name_of_uid(a).casefold() != name_of_uid(b).casefold()
            left = key_of(NamingScheme.UID, a, "1", "1").casefold()
            assert left != key_of(NamingScheme.UID, b, "1", "1").casefold()


@given(name=st.text(SIGNS.replace("/", ""), max_size=80))
def test_a_name_is_of_one_uid_or_of_none(name: str) -> None:
    uid = sop_instance_uid_of(name + ".dcm")
    if uid is not None and "~" not in name:
        assert name_of_uid(uid) == name
