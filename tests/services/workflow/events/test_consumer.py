"""``[[events.consumers]]``: what is taken, what is refused, and that secrets are not shown."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.toml_text import show
from isocenter.services.settings.warnings import warnings
from isocenter.services.workflow.events.consumer import (
    Consumer,
    ProgramTarget,
    PythonFunction,
    Webhook,
)
from isocenter.services.workflow.events.event import Kind

SECRET = "correct horse battery staple"


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "isocenter.toml"
    path.write_text(text)
    return load_settings(path, {})


def fault_of(tmp_path: Path, *lines: str) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, "\n".join(["[[events.consumers]]", 'name = "ris"', *lines]))
    return str(caught.value)


def test_three_ways(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        f"""
        [events]
        quiet_by_modality = {{ US = 300, CR = 30.5 }}
        complete_by = ["mpps", "quiet"]

        [[events.consumers]]
        name = "ris"
        webhook = "https://ris.example/hook?key=1"
        secret = "{SECRET}"
        kinds = ["study.complete", "study.reopened"]
        timeout = 10

        [[events.consumers]]
        name = "script"
        command = ["/usr/local/bin/told", "--quietly"]

        [[events.consumers]]
        name = "function"
        python = "site.events:told"
        give_up_after = 3600
        """,
    )
    ris, script, function = settings.events.consumers
    assert ris.target == Webhook(url="https://ris.example/hook?key=1", secret=SECRET)
    assert (ris.kinds, ris.timeout) == (("study.complete", "study.reopened"), 10.0)
    assert script == Consumer(
        name="script", target=ProgramTarget(("/usr/local/bin/told", "--quietly"))
    )
    assert script.kinds == tuple(kind.value for kind in Kind)
    assert function.target == PythonFunction("site.events:told")
    assert settings.events.rules().quiet_of(["CR", "US"]) == 300.0

    text = show(settings)
    assert SECRET not in text
    assert SECRET not in repr(settings)
    shown = tomllib.loads(text)["events"]
    assert shown["quiet_by_modality"] == {"US": 300.0, "CR": 30.5}
    assert [each["name"] for each in shown["consumers"]] == ["ris", "script", "function"]
    # What config show prints is no secret, and must not become one.
    with pytest.raises(SettingsError, match="which config show prints"):
        loaded(tmp_path, text)
    assert loaded(tmp_path, text.replace("(hidden)", SECRET)).events == settings.events


def test_events_in_the_clear_are_warned_of() -> None:
    text = "a=http://127.0.0.1/x, b=https://h/, c=http://h/, d=http://[::1]:5/, e=http://10.0.0.1/"
    settings = load_settings(None, {"ISOCENTER__EVENTS__CONSUMERS": text})
    told = [line.split()[5] for line in warnings(settings) if "events go to" in line]
    assert told == ["c", "e"]


def test_as_environment_variable() -> None:
    variable = "ISOCENTER__EVENTS__CONSUMERS"
    settings = load_settings(None, {variable: "a=http://127.0.0.1/x, b=https://h:1/"})
    assert [(each.name, each.target) for each in settings.events.consumers] == [
        ("a", Webhook(url="http://127.0.0.1/x")),
        ("b", Webhook(url="https://h:1/")),
    ]
    settings = load_settings(None, {"ISOCENTER__EVENTS__QUIET_BY_MODALITY": "US=300, CR=5"})
    assert settings.events.quiet_by_modality == {"US": 300.0, "CR": 5.0}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["webhook = 'ftp://h/'"], "consumer ris: webhook = 'ftp://h/': must be an http or https"),
        (["webhook = 'https://u:p@h/'"], "without user and password"),
        (["webhook = 'http://h:99999/'"], "must be an http"),
        (["webhook = 'http://h:0/'"], "must be an http"),
        (["webhook = 'http:///x'"], "must be an http"),
        (["webhook = 'http://h/'", "kinds = ['study.completed']"], "study.complete or"),
        (["webhook = 'http://h/'", "kinds = []"], "kinds is empty"),
        (["webhook = 'http://h/'", "secret = ''"], "secret = (hidden): must be"),
        (["webhook = 'http://h/'", "secret = 7"], "secret = (hidden): must be"),
        (["webhook = 'http://h/'", "secret_file = 'x'"], "must be an absolute path"),
        (["webhook = 'http://h/'", "secret = 'a'", "secret_file = '/x'"], "keep one"),
        (["webhook = 'http://h/'", "command = ['x']"], "needs one of webhook, command, python"),
        (["webhook = 'http://h/'", "timeout = 0"], "timeout = 0: must be a number of seconds"),
        (["command = []"], "command is empty"),
        (["command = ['x']", "secret = 'a'"], "secret is for a webhook"),
        (["python = 'no function'"], "must be module:function"),
        (["url = 'http://h/'"], "there is no 'url'; there are name, webhook"),
        ([], "needs one of webhook, command, python"),
        (["command = ['x']", "[[events.consumers]]", "name = 'ris'", "command = ['y']"],
         "two consumers have the name ris"),
        (["command = ['x']", "[[events.consumers]]", "command = ['y']"], "no. 2 needs a name"),
        (["command = ['x']", "[events]", "enabled = false"],
         "get nothing while events.enabled is false"),
    ],
)  # fmt: skip
def test_faults_name_the_consumer_and_the_cure(
    tmp_path: Path, lines: list[str], words: str
) -> None:
    assert words in fault_of(tmp_path, *lines)


def test_a_wrong_shape_shows_no_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tables \[\[events.consumers\]\]") as caught:
        loaded(tmp_path, f"[events.consumers]\nname = 'ris'\nsecret = '{SECRET}'")
    assert SECRET not in str(caught.value)
    assert SECRET not in fault_of(tmp_path, f"secret = '{SECRET}'", "port = 1")


@pytest.mark.parametrize("value", ["{ US = 0 }", "{ us = 1 }", "3", "{ US = '5' }"])
def test_quiet_by_modality_that_cannot_be(tmp_path: Path, value: str) -> None:
    with pytest.raises(
        SettingsError, match=r"a table from modality to seconds|, US = .*seconds above 0"
    ):
        loaded(tmp_path, f"[events]\nquiet_by_modality = {value}")
