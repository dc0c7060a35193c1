"""Settings in the API: shown, changed, put back; and what cannot be."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from isocenter.services.notices import SettingsChanged
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

pytestmark = pytest.mark.usefixtures("quiet_again")
CONFIG = "/system/config"


async def value_of(site: Site, key: str) -> Any:
    return (await ask(site, "GET", f"{CONFIG}/{key}")).json()["value"]


async def test_settings_are_shown_with_their_source(site: Site) -> None:
    answer = await ask(site, "GET", f"{CONFIG}?section=log")
    settings = {one["key"]: one for one in answer.json()["settings"]}
    assert all(key.startswith("log.") for key in settings)
    assert settings["log.level"]["value"] == settings["log.level"]["default"] == "info"
    assert settings["log.level"]["source"] == "default"
    assert "debug" in settings["log.level"]["allowed"]
    fixed = (await ask(site, "GET", f"{CONFIG}/storage.durability")).json()
    assert fixed["fixed_by"].startswith("option")
    assert (await ask(site, "GET", f"{CONFIG}/log.loud")).status_code == 404


async def test_settings_are_changed_and_put_back(site: Site) -> None:
    body = {"settings": {"log.level": "debug", "worklist.max_results": 9}}
    answer = await ask(site, "PUT", CONFIG, body)
    assert answer.status_code == 200
    assert answer.json()["applied"] == ["log.level"]
    assert answer.json()["after_restart"] == ["worklist.max_results"]
    assert "restart" in answer.json()["message"]
    assert logging.getLogger("isocenter").level == logging.DEBUG
    assert await value_of(site, "log.level") == "debug"
    assert (await ask(site, "PUT", f"{CONFIG}/log.level", {"value": "error"})).status_code == 200
    assert await value_of(site, "log.level") == "error"
    assert (await ask(site, "DELETE", f"{CONFIG}/log.level")).status_code == 200
    assert await value_of(site, "log.level") == "info"
    told = [one.keys for one in site.told if isinstance(one, SettingsChanged)]
    assert told == [("log.level", "worklist.max_results"), ("log.level",), ("log.level",)]
    assert {one.caller.certificate for one in site.told if isinstance(one, SettingsChanged)} == {
        "program"
    }


async def test_what_cannot_be_is_told_with_all_that_is_wrong(site: Site) -> None:
    body = {"settings": {"log.levl": "debug", "server.port": "x", "storage.durability": "full"}}
    answer = await ask(site, "PUT", CONFIG, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_SETTINGS")
    faults = {one["key"]: one["detail"] for one in answer.json()["faults"]}
    assert faults.keys() == {"log.levl", "storage.durability"}
    assert "did you mean log.level?" in faults["log.levl"]
    answer = await ask(site, "PUT", f"{CONFIG}/server.port", {"value": "x"})
    assert "must be" in answer.json()["detail"]
    assert (await ask(site, "PUT", CONFIG, {"setting": {}})).status_code == 400


async def test_who_changes_what_has_changed_meanwhile_is_told(site: Site) -> None:
    for path, body in (
        (CONFIG, {"settings": {"log.level": "error"}}),
        (f"{CONFIG}/log.level", {"value": "error"}),
    ):
        seen = (await ask(site, "GET", path)).headers["etag"]
        assert (await ask(site, "GET", path, if_none_match=seen)).status_code == 304
        changed = await ask(site, "PUT", path, body, if_match=seen)
        assert changed.status_code == 200, changed.text
        answer = await ask(site, "PUT", path, body, if_match=seen)
        assert (answer.status_code, answer.json()["code"]) == (412, "CHANGED")
        assert (await ask(site, "PUT", path, body, if_match="*")).status_code == 200
        assert (await ask(site, "DELETE", f"{CONFIG}/log.level")).status_code == 200


# -- Groups -------------------------------------------------------------------------------


async def test_groups_of_settings_are_shown(site: Site) -> None:
    dicom = (await ask(site, "GET", "/system/dicom-config")).json()
    assert (dicom["ae_title"], dicom["ae_whitelist"]) == ("ISOCENTER", [])
    assert dicom["accept_unknown_calling_ae"]
    assert dicom["implementation_version_name"] == "ISOCENTER_1"
    storage = (await ask(site, "GET", "/system/storage-config")).json()
    assert (storage["naming_scheme"], storage["durability"]) == ("uid", "relaxed")
    log = (await ask(site, "GET", "/system/logging-config")).json()
    assert (log["level"], log["console"], log["file"]) == ("info", True, None)


async def test_groups_of_settings_are_changed(site: Site) -> None:
    path = "/system/dicom-config"
    seen = (await ask(site, "GET", path)).headers["etag"]
    body = {"ae_whitelist": ["CT1"], "accept_unknown_calling_ae": False, "port": 11119}
    answer = await ask(site, "PUT", path, body, if_match=seen)
    assert "access.allow" in answer.json()["applied"]
    assert answer.json()["after_restart"] == ["server.port"]
    assert (await refused(site, "PUT", path, body, if_match=seen))[0] == 412
    assert site.access.settings.allow == ("CT1",)
    shown = (await ask(site, "GET", path)).json()
    assert (shown["accept_unknown_calling_ae"], shown["port"]) == (False, 11119)
    await ask(site, "PUT", path, {"accept_unknown_calling_ae": True})
    assert site.access.settings.allow == ()
    shown = (await ask(site, "GET", path)).json()
    assert (shown["accept_unknown_calling_ae"], shown["ae_whitelist"]) == (True, ["CT1"])
    await ask(site, "PUT", path, {"accept_unknown_calling_ae": False})
    assert site.access.settings.allow == ("CT1",)
    answer = await ask(site, "PUT", "/system/logging-config", {"level": "error"})
    assert answer.json()["applied"] == ["log.level"]
    assert logging.getLogger("isocenter").level == logging.ERROR


@pytest.mark.parametrize(
    ("group", "body"),
    [
        ("dicom", {"accept_unknown_calling_ae": False}),
        ("dicom", {"accept_unknown_calling_ae": False, "ae_whitelist": []}),
        ("dicom", {"ae_title": "x" * 17}),
        ("dicom", {"implementation_class_uid": "1.2"}),
        ("storage", {"root_path": "/elsewhere"}),
        ("storage", {"naming_scheme": "random"}),
        ("logging", {"level": "loud"}),
        ("logging", {}),
    ],
)
async def test_a_group_that_cannot_be_is_told(site: Site, group: str, body: dict[str, Any]) -> None:
    assert (await refused(site, "PUT", f"/system/{group}-config", body))[0] == 400
