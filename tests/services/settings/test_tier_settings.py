from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.archive.tiers.tier import InstanceAvailability, Tier, TierRule
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.toml_text import show

GOOD = """
[tiers]
warm = "file:///mnt/warm"
cold = "s3://bucket/cold?region=eu-central-1"
cold_class = "GLACIER_IR"
warm_availability = "offline"

[[tiers.rules]]
name = "a"
tier = "warm"
unused_days = 30

[[tiers.rules]]
name = "b"
tier = "cold"
modalities = ["US", "XA"]
study_days = 365
least_size = 1000
is_complete = true
"""


def load(path: Path, text: str) -> Settings:
    file = path / "isocenter.toml"
    file.write_text(f'[storage]\ndata_dir = "{path / "data"}"\n{text}')
    return load_settings(file, environ={})


def test_tiers_and_rules_are_read_and_written_again(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    tiers = settings.tiers
    assert list(tiers.places) == [Tier.WARM, Tier.COLD]
    assert tiers.availability == {
        Tier.WARM: InstanceAvailability.OFFLINE,
        Tier.COLD: InstanceAvailability.NEARLINE,
    }
    assert tiers.storage_class(Tier.COLD) == "GLACIER_IR"
    assert tiers.rules == (
        TierRule(name="a", tier=Tier.WARM, unused_days=30),
        TierRule(
            name="b",
            tier=Tier.COLD,
            modalities=("US", "XA"),
            study_days=365,
            least_size=1000,
            is_complete=True,
        ),
    )
    again = tmp_path / "again.toml"
    again.write_text(show(settings))
    assert load_settings(again, environ={}).tiers == tiers


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"GLACIER_IR"', '"GLACIER"', "restored"),
        ('"GLACIER_IR"', '"deep_archive"', "restored"),
        ('"GLACIER_IR"', '"a b"', "storage class"),
        ("file:///mnt/warm", "ftp://x", "must begin with file://"),
        ('tier = "warm"', 'tier = "hot"', '"warm" or "cold"'),
        ('tier = "warm"', "", '"warm" or "cold"'),
        ("unused_days = 30", "unused_days = 0", "whole number from 1"),
        ("unused_days = 30", "least_size = 5", "say for how long"),
        ("unused_days = 30", "unused = 30", "there is no 'unused'"),
        ('name = "b"', 'name = "a"', "have the name"),
        ('warm = "file:///mnt/warm"', "", "there is none; set tiers.warm"),
        ("file:///mnt/warm", "s3://bucket/cold?region=eu-central-1", "a place of its own"),
        ('cold = "s3://bucket/cold?region=eu-central-1"', 'cold = "file:///x"', "for a bucket"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError, match=said.replace("(", r"\(")):
        load(tmp_path, GOOD.replace(old, new))


def test_a_tier_is_not_the_data_directory(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is the data directory"):
        load(tmp_path, f'[tiers]\nwarm = "file://{tmp_path / "data"}"')


def test_an_archive_in_memory_has_no_tiers() -> None:
    with pytest.raises(SettingsError, match="needs a data directory"):
        load_settings(
            environ={}, overrides={"storage.data_dir": ":memory:", "tiers.warm": "file:///x"}
        )
