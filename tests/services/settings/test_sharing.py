"""Settings of sharing: repositories, and by whose identifiers others know patients."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.integration.sharing.key_object_manifest import ManifestForm
from isocenter.services.integration.sharing.repository import (
    MetadataCode,
    Protocol,
    PublishWhen,
    Repository,
)
from isocenter.services.settings.consistency import conflicts
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.repositories import RepositoriesKind
from isocenter.services.settings.value_types import InvalidPartsError, InvalidValueError
from isocenter.services.settings.warnings import warnings

KIND = RepositoriesKind()
BARE = {"name": "a", "mhd": "https://a.example/fhir", "source_oid": "1.2.3"}
WHOLE = {
    "name": "national",
    "xds": "https://repository.example/iti41",
    "registry": "https://registry.example/iti18",
    "documents": "https://repository.example/iti43",
    "source_oid": "1.2.3",
    "ca": "/ca.pem",
    "certificate": "/own.crt",
    "key": "/own.key",
    "token_file": "/token",
    "publish": "complete",
    "modalities": ["CT", "MR"],
    "form": "mado",
    "language": "de-AT",
    "arrival_seconds": 30,
    "facility": "X|urn:oid:1.2.3.4|Place",
}


def read(*tables: dict[str, Any]) -> tuple[Repository, ...]:
    return KIND.from_toml(list(tables))


def test_a_repository_is_read_and_written_as_it_was() -> None:
    bare, whole = read(BARE, WHOLE)
    assert (bare.protocol, bare.when, bare.form) == (
        Protocol.MHD, PublishWhen.BY_HAND, ManifestForm.XDS_I,
    )  # fmt: skip
    assert (whole.protocol, whole.when, whole.form) == (
        Protocol.XDS, PublishWhen.COMPLETE, ManifestForm.MADO,
    )  # fmt: skip
    assert whole.registry == "https://registry.example/iti18"
    assert whole.key == Path("/own.key")
    assert whole.codes.facility == MetadataCode("X", "urn:oid:1.2.3.4", "Place")
    assert whole.codes.practice == bare.codes.practice
    written = tomllib.loads(f"x = {KIND.to_toml((bare, whole))}")["x"]
    assert KIND.from_toml(written) == (bare, whole)
    assert KIND.from_text("") == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": None}, "needs a? ?name"),
        ({"name": "a b"}, "name"),
        ({"source_oid": None}, "repository a needs source_oid"),
        ({"source_oid": "x"}, "a UID"),
        ({"mhd": None}, "one of mhd and xds"),
        ({"xds": "https://b.example"}, "one of mhd and xds"),
        ({"mhd": "ftp://a"}, "URL"),
        ({"mhd": "https://user:secret@a.example"}, "URL"),
        ({"mhd": "https://a.example/?x=1"}, "URL"),
        ({"registry": "https://b.example"}, "registry is for xds"),
        ({"documents": "https://b.example"}, "documents is for xds"),
        ({"certificate": "/own.crt"}, "go together"),
        ({"ca": "ca.pem"}, "absolute path"),
        ({"publish": "always"}, "complete"),
        ({"form": "pdf"}, "mado"),
        ({"modalities": ["ct"]}, "modalit"),
        ({"language": "german language"}, "language tag"),
        ({"facility": "X"}, r"CODE\|SYSTEM\|MEANING"),
        ({"colour": "red"}, "there is no 'colour'"),
    ],
)
def test_faults_name_the_repository_and_the_key(changes: dict[str, Any], fault: str) -> None:
    table = {key: value for key, value in {**BARE, **changes}.items() if value is not None}
    with pytest.raises((InvalidValueError, InvalidPartsError)) as told:
        read(table)
    parts = getattr(told.value, "faults", ())
    said = str(told.value) + "".join(map(str, parts))
    assert re.search(fault, said), said


def test_two_of_one_name_and_other_values_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="two repositories"):
        read(BARE, BARE)
    for value in ("x", {"name": "a"}, ["x"]):
        with pytest.raises((InvalidValueError, InvalidPartsError)):
            KIND.from_toml(value)
    with pytest.raises(InvalidValueError, match="in a file"):
        KIND.from_text("a=https://a.example")


def test_what_cannot_be_published_by_itself_is_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "isocenter.toml"
    path.write_text(
        """
        [server]
        time_zone = "Europe/Berlin"
        [sharing]
        issuers = ["HOSP=A = 1.2.3"]
        [[sharing.repositories]]
        name = "a"
        mhd = "http://a.example/fhir"
        source_oid = "1.2.3"
        publish = "complete"
        """
    )
    settings = load_settings(path, {}, {})
    assert settings.sharing.oids_by_issuer == {"HOSP=A": "1.2.3"}
    assert str(settings.server.zone) == "Europe/Berlin"
    assert any("repository a in the clear" in line for line in warnings(settings))
    assert list(conflicts(settings, ())) == []
    still = replace(settings, jobs=replace(settings.jobs, enabled=False))
    (found,) = conflicts(still, ())
    assert (found.key, found.beside) == ("sharing.repositories", ("jobs.enabled",))
