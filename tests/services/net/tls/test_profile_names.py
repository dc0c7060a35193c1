"""Names of TLS profiles: ours, other people's, and those that are gone."""

from __future__ import annotations

import argparse

import pytest

from isocenter.services.cli.support.tls_options import tls_profile
from isocenter.services.net.tls.contexts import PROFILES
from isocenter.services.net.tls.profile_names import profile_named, warning_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.warnings import warnings


@pytest.mark.parametrize("name", list(PROFILES))
def test_our_names_are_what_they_are(name: str) -> None:
    assert profile_named(name) == name


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("BCP195-Basic", "basic"),
        ("BCP195-NonDowngrading", "non-downgrading"),
        ("bcp195_extended", "extended"),
        ("BCP195-RFC8996", "bcp195"),
        ("8996-mod", "bcp195-modified"),
        (" TLS1.3 ", "tls13"),
    ],
)
def test_names_of_others_mean_ours(theirs: str, ours: str) -> None:
    assert profile_named(theirs) == ours
    settings = load_settings(environ={}, overrides={"tls.profile": theirs})
    assert settings.tls.profile == ours


@pytest.mark.parametrize("name", ["aes", "3DES", "ISCL", "null", "TLS1.0", "tls11"])
def test_what_is_gone_names_its_successor(name: str) -> None:
    with pytest.raises(ValueError, match=r"use bcp195 \(PS3\.15 B\.12\)"):
        profile_named(name)
    with pytest.raises(SettingsError, match=r"use bcp195 \(PS3\.15 B\.12\)"):
        load_settings(environ={}, overrides={"tls.profile": name})
    with pytest.raises(argparse.ArgumentTypeError, match=r"use bcp195"):
        tls_profile(name)


def test_what_never_was_names_all() -> None:
    with pytest.raises(ValueError, match="there is no TLS profile 'strong': bcp195, "):
        profile_named("strong")


@pytest.mark.parametrize("name", list(PROFILES))
def test_retired_ones_are_warned_of(name: str) -> None:
    is_retired = name in ("basic", "non-downgrading", "extended")
    assert bool(warning_of(name)) is is_retired
    settings = load_settings(environ={}, overrides={"tls.profile": name})
    said = [text for text in warnings(settings) if "is retired; its successor is bcp195" in text]
    assert len(said) == is_retired
    off = load_settings(environ={}, overrides={"tls.profile": name, "tls.enabled": False})
    assert not [text for text in warnings(off) if "retired" in text]
