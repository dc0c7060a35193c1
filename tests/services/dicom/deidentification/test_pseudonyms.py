"""Pseudonyms: the same for the same key, others for another, and mappings in both directions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.dicom.deidentification.pseudonyms import (
    PseudonymError,
    Pseudonyms,
    UidMap,
    check_uid_root,
    is_uid,
    parse_key,
)

KEY, OTHER = b"k" * 32, b"o" * 32


def test_the_same_key_gives_the_same_and_another_key_something_else() -> None:
    one, two, other = Pseudonyms(KEY), Pseudonyms(KEY), Pseudonyms(OTHER)
    for made, again, foreign in (
        (one.uid("1.2.3"), two.uid("1.2.3"), other.uid("1.2.3")),
        (one.code("ZQ-1"), two.code("ZQ-1"), other.code("ZQ-1")),
        (one.digest("ZQ-1"), two.digest("ZQ-1"), other.digest("ZQ-1")),
        (one.encrypted(b"ZQ-1"), two.encrypted(b"ZQ-1"), other.encrypted(b"ZQ-1")),
    ):
        assert made == again != foreign


@given(st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,6}", fullmatch=True))
def test_every_uid_gets_a_uid_that_stands_in_a_ui(uid: str) -> None:
    made = Pseudonyms(KEY).uid(uid)
    assert is_uid(made)
    assert made != uid or uid.startswith("1.2.840.10008.")
    assert not any(part.startswith("0") and part != "0" for part in made.split("."))
    rooted = Pseudonyms(KEY, UidMap("1.2.826.0.1.3680043.10.999")).uid(uid)
    assert is_uid(rooted)


def test_uids_of_the_standard_stay() -> None:
    assert Pseudonyms(KEY).uid("1.2.840.10008.1.2.1") == "1.2.840.10008.1.2.1"


def test_days_are_of_the_patient_in_the_past_and_whole_weeks_where_weekdays_count() -> None:
    made = {patient: Pseudonyms(KEY).days(patient) for patient in map(str, range(300))}
    assert all(-365 <= days <= -1 for days in made.values())
    assert len(set(made.values())) > 150
    weeks = {Pseudonyms(KEY, keeps_weekdays=True).days(patient) for patient in made}
    assert all(days % 7 == 0 and -365 <= days <= -7 for days in weeks)
    assert Pseudonyms(KEY, days=12).days("anybody") == 12


def test_what_was_encrypted_comes_back_with_its_key_only() -> None:
    text = Pseudonyms(KEY).encrypted(b"ZQ-471100")
    assert len(bytes.fromhex(text)) == 12 + 9 + 16
    assert Pseudonyms(KEY).decrypted(text) == b"ZQ-471100"
    for wrong in (text[:-2] + "00", "zz", ""):
        with pytest.raises(PseudonymError):
            Pseudonyms(KEY).decrypted(wrong)
    with pytest.raises(PseudonymError):
        Pseudonyms(OTHER).decrypted(text)


def test_a_mapping_goes_out_and_comes_back() -> None:
    pseudonyms = Pseudonyms(KEY)
    made = pseudonyms.uid("1.2.3")
    text = json.dumps(pseudonyms.uids.to_json())
    again = UidMap.from_json(json.loads(text))
    assert again.pseudonym_of("1.2.3") == made
    assert again.original_of(made) == "1.2.3"
    # What was brought counts, also under another key.
    assert Pseudonyms(OTHER, again).uid("1.2.3") == made
    assert "1.2.3" in again
    assert again.remove("1.2.3")
    assert not again.remove("1.2.3")
    assert len(again) == 0
    assert again.original_of(made) is None


def test_mappings_that_contradict_each_other_are_not_joined() -> None:
    one, two = UidMap(), UidMap()
    one.add("1.2.3", "2.25.1")
    two.add("1.2.4", "2.25.2")
    assert one.merge(two) == 1
    assert one.merge(two) == 0
    for original, pseudonym in (("1.2.3", "2.25.9"), ("1.2.9", "2.25.1")):
        wrong = UidMap()
        wrong.add("1.2.77", "2.25.77")
        wrong.add(original, pseudonym)
        with pytest.raises(PseudonymError):
            one.merge(wrong)
        with pytest.raises(PseudonymError):
            one.add(original, pseudonym)
        assert "1.2.77" not in one
    one.clear()
    assert not list(one.items())


@pytest.mark.parametrize(
    "model",
    [
        [], {}, {"mappings": {}}, {"mappings": [1]}, {"mappings": [{"original": "1.2"}]},
        {"mappings": [{"original": "1.2", "anonymized": "../x"}]}, {"uid_root": 1, "mappings": []},
        {"uid_root": "1.2.840.10008", "mappings": []},
        {"mappings": [{"original": "1.2", "anonymized": "1.3"},
                      {"original": "1.2", "anonymized": "1.4"}]},
    ],
)  # fmt: skip
def test_what_is_no_mapping_is_refused(model: object) -> None:
    with pytest.raises(PseudonymError):
        UidMap.from_json(model)


def test_keys_are_hexadecimal_or_bytes_and_long_enough() -> None:
    assert parse_key(b"00" * 16 + b"\n") == bytes(16)
    assert parse_key(b"\xff" * 20) == b"\xff" * 20
    for short in (b"", b"abc", b"00" * 15):
        with pytest.raises(PseudonymError):
            parse_key(short)
    with pytest.raises(PseudonymError):
        Pseudonyms(b"short")


@pytest.mark.parametrize("root", ["", "x", "1.2.840.10008", "1.2.840.10008.5", "1" * 39, "1..2"])
def test_roots_that_leave_no_room_are_refused(root: str) -> None:
    with pytest.raises(PseudonymError):
        check_uid_root(root)
