"""Projects of de-identification in settings: what they mean, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import DatePolicy, PrivatePolicy
from isocenter.services.dicom.deidentification.regions import Region
from isocenter.services.dicom.deidentification.rules import Action
from isocenter.services.settings.deidentification import (
    PROJECTS,
    DeidentificationFault,
    ProjectKind,
    parse_project,
)
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.warnings import warnings

WHOLE: dict[str, Any] = {
    "name": "trial-7", "profile": "hipaa-safe-harbor", "options": ["device"],
    "destinations": ["TRIAL", "node.example"], "private": "safe", "documents": "replace",
    "video": "keep", "weekdays": True, "date_offset": -30, "uid_root": "1.2.826.0.1.3680043.10.9",
    "key_file": "/etc/trial.key", "pixel_rules": "Modality=US\t0,0,10,10\n", "unknown": "accept",
    "text": "warn", "keep": ["StudyDescription"], "remove": ["0008,0060"], "hash": ["PatientID"],
    "replace": {"PatientComments": "phantom"},
}  # fmt: skip


def test_a_table_means_a_project() -> None:
    made = parse_project(WHOLE)
    assert made.name == made.profile.name == "trial-7"
    assert made.destinations == ("TRIAL", "node.example")
    assert made.profile.options == {
        Option.DEVICE, Option.DESCRIPTORS, Option.MODIFIED_DATES, Option.PATIENT, Option.PRIVATE,
    }  # fmt: skip
    assert made.profile.dates is DatePolicy.YEAR
    assert made.profile.private is PrivatePolicy.SAFE
    assert made.profile.custom[0x00081030].action is Action.KEEP
    assert made.profile.custom[0x00104000].value == "phantom"
    assert made.pixels.rules[0].regions == (Region(0, 0, 10, 10),)
    assert (made.weekdays, made.days, made.key_file) == (True, -30, Path("/etc/trial.key"))


@pytest.mark.parametrize("title", ["https://h.example/rs", "h.example:8443", "h:80", "A@h:104"])
def test_a_destination_that_would_never_be_met_is_refused(title: str) -> None:
    """Objects would be sent there as they are."""
    with pytest.raises(DeidentificationFault, match="without port and path"):
        parse_project({"name": "x", "destinations": [title]})


@pytest.mark.parametrize("title", ["A/B:C", "Long-Name.Of.A.Host.example", "2001:db8::7", "::1"])
def test_destinations_are_titles_or_hosts(title: str) -> None:
    assert parse_project({"name": "x", "destinations": [title]}).destinations == (title,)


def test_what_is_shown_means_the_same() -> None:
    made = parse_project(WHOLE)
    kind = ProjectKind()
    assert kind.from_text(kind.to_toml(made)) == made
    shown = PROJECTS.to_toml((made, parse_project({"name": "other"})))
    assert [one["name"] for one in tomllib.loads(f"x = {shown}")["x"]] == ["trial-7", "other"]
    assert PROJECTS.from_text(shown)[0] == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "name of letters"),
        ({"profile": "none"}, "no profile"),
        ({"options": ["all"]}, "no option"),
        ({"options": "device"}, "list of texts"),
        ({"options": ["full"]}, "choose one option"),
        ({"private": "perhaps"}, "private is one of"),
        ({"documents": "perhaps"}, "documents is one of"),
        ({"video": "replace"}, "cannot be replaced"),
        ({"keep": ["NoSuchKeyword"]}, "no keyword"),
        ({"replace": ["x"]}, "replace is a table"),
        ({"uid_root": "1.2.840.10008"}, "DICOM itself"),
        ({"pixel_rules": "nonsense"}, "line 1"),
        ({"weekdays": 1}, "weekdays"),
        ({"date_offset": "x"}, "date_offset"),
        ({"destinations": ["two words"]}, "destinations"),
        ({"destination": []}, "there is no 'destination'"),
    ],
)
def test_what_cannot_be_is_told_with_its_project(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DeidentificationFault, match=message):
        parse_project({**WHOLE, **change})


def test_names_and_destinations_belong_to_one_project() -> None:
    for second in ({"name": "a"}, {"name": "b", "destinations": ["X"]}):
        with pytest.raises(DeidentificationFault):
            PROJECTS.from_toml([{"name": "a", "destinations": ["X"]}, second])
    with pytest.raises(DeidentificationFault):
        parse_project("x")


@pytest.mark.parametrize(
    ("places", "what"),
    [
        (["PRINTER"], "films show what is stored"),
        (["printer.example"], "films show what is stored"),
        (["FHIR.example."], "manifests name patients"),
        (["10.7.0.9"], "manifests name patients"),
    ],
)
def test_what_cannot_be_deidentified_is_for_no_project(
    tmp_path: Path, places: list[str], what: str
) -> None:
    """Films and manifests have no form of a project: its destinations would be given originals."""
    path = tmp_path / "isocenter.toml"
    path.write_text(
        """
        peers = ["PRINTER@printer.example:104"]
        [print]
        enabled = true
        outputs = ["printer"]
        printer = "PRINTER"
        [[sharing.repositories]]
        name = "a"
        mhd = "https://fhir.example/r4"
        source_oid = "1.2.3"
        [[sharing.repositories]]
        name = "b"
        mhd = "https://10.7.0.9/r4"
        source_oid = "1.2.3"
        """
    )
    load_settings(path, {}, {})
    project = f"[{{ name = 'x', destinations = {places} }}]"
    with pytest.raises(SettingsError, match=what):
        load_settings(path, {}, {"deidentification": project})


def test_a_peer_of_which_nobody_knows_where_it_is_is_told() -> None:
    """It is in no network, and is sent objects as they are."""
    found = load_settings(
        environ={},
        overrides={
            "peers": ["NAMED@trial.example:104", "TOLD@told.example:104", "THERE@10.7.0.5:104"],
            "deidentification": '[{ name = "x", destinations=["TOLD"], addresses=["10.7.0.0/16"]}]',
        },
    )
    told = [line for line in warnings(found) if "names are not looked up" in line]
    assert len(told) == 1
    assert "peer NAMED" in told[0]


@pytest.mark.parametrize(
    ("more", "key", "names"),
    [
        ('[[events.consumers]]\nname = "told"\navailability = "TRIAL"', "events.consumers", "told"),
        (
            '[[events.consumers]]\nname = "hook"\nwebhook = "https://10.7.0.9/events"',
            "events.consumers",
            "hook",
        ),
        ('[mpps]\nenabled = true\nnotify = ["TRIAL"]', "mpps.notify", "TRIAL"),
    ],
)
def test_nobody_for_whom_a_project_is_is_told_of_originals(
    tmp_path: Path, more: str, key: str, names: str
) -> None:
    path = tmp_path / "isocenter.toml"
    path.write_text(
        'peers = ["TRIAL@10.7.0.5:104", "RIS@10.8.0.5:104"]\n'
        'deidentification = [{ name = "x", addresses = ["10.7.0.0/16"] }]\n' + more
    )
    with pytest.raises(SettingsError, match=rf"{key}.*{names} .*project x is for"):
        load_settings(path, {}, {})
    path.write_text(path.read_text().replace('TRIAL"', 'RIS"').replace("10.7.0.9", "10.8.0.9"))
    load_settings(path, {}, {})


def test_a_rule_does_not_give_up_what_nobody_else_has_as_it_is() -> None:
    overrides = {
        "peers": "TRIAL@trial.example:104,PACS@pacs.example:104",
        "deidentification": '[{ name = "trial-7", destinations = ["TRIAL"] }]',
    }

    def loaded(rule: str) -> int:
        rules = f'[{{ name = "a", delete_after_days = 30, {rule} }}]'
        return len(load_settings(environ={}, overrides=overrides | {"rules": rules}).rules)

    with pytest.raises(SettingsError, match="nobody would have the object as it is"):
        loaded('forward = ["TRIAL"]')
    assert loaded('forward = ["TRIAL", "PACS"]')
    assert loaded('forward = ["TRIAL"], delete_since = "arrived"')
    overrides["server.additional_ae_titles"] = "PACS"
    with pytest.raises(SettingsError, match="PACS is this archive itself"):
        loaded('forward = ["TRIAL", "PACS"]')
