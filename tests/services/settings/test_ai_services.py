"""AI services in the settings: what may be named, and that it is read as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.integration.ai.ai_service import AiService, Authentication
from isocenter.services.settings.ai_services import (
    AI_SERVICES,
    AiServiceFault,
    AiServiceKind,
    parse_service,
)
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings

LEAST = {"name": "lung", "url": "https://ai.example/v1/"}
ALL = {
    "name": "lung",
    "url": "https://ai.example:8443",
    "authentication": "basic",
    "user": "al",
    "key_file": "/etc/key",
    "ca": "/etc/ca.pem",
    "model": "m 1",
    "parameters": {"a b": 'x"y'},
    "modalities": ["CT", "MR"],
    "connect_timeout": 5,
    "answer_timeout": 60,
    "poll_interval": 1.5,
    "give_up_after": 600,
    "most_results": 3,
    "most_result_bytes": 1000,
    "strict": True,
    "research": True,
}


def test_what_is_not_said_is_as_by_default() -> None:
    assert parse_service(LEAST) == AiService(name="lung", url="https://ai.example/v1")


@pytest.mark.parametrize("table", [LEAST, ALL])
def test_what_is_shown_is_read_again(table: dict[str, object]) -> None:
    kind, service = AiServiceKind(), parse_service(table)
    assert kind.from_text(kind.to_toml(service)) == service


def test_all_of_it_is_taken() -> None:
    service = parse_service(ALL)
    assert service.authentication is Authentication.BASIC
    assert service.key_file == Path("/etc/key")
    assert (service.poll_seconds, service.give_up_seconds) == (1.5, 600.0)
    assert (service.host, service.destination) == ("ai.example", "ai:lung")
    assert service.is_strict
    assert service.is_research


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "a:b"}, "needs a name"),
        ({"name": 1}, "needs a name"),
        ({"url": "ftp://ai.example"}, "url"),
        ({"url": "http://ai.example"}, "begins with https"),
        ({"url": "https://al:secret@ai.example"}, "no user and password"),
        ({"url": 1}, "url is a text"),
        ({"key": "x"}, "there is no 'key'"),
        ({"authentication": "digest"}, "authentication is one of"),
        ({"authentication": "bearer"}, "belong together"),
        ({"key_file": "/k"}, "belong together"),
        ({"authentication": "bearer", "key_file": "k"}, "absolute"),
        ({"authentication": "basic", "key_file": "/k"}, "user is for"),
        ({"user": "al"}, "user is for"),
        ({"header": "x-key"}, "header is for"),
        ({"authentication": "api_key", "key_file": "/k", "header": "a b"}, "header is the name"),
        ({"parameters": {"a": 1}}, "parameters is a table"),
        ({"modalities": "CT"}, "modalities is a list"),
        ({"modalities": ["ct"]}, "modalities is a list"),
        ({"poll_interval": 0}, "poll_interval must be"),
        ({"most_results": 0}, "most_results must be"),
        ({"strict": "yes"}, "strict is true or false"),
    ],
)
def test_what_cannot_be_is_said_with_the_cure(change: dict[str, object], what: str) -> None:
    with pytest.raises(AiServiceFault, match=what):
        parse_service(LEAST | change)


def test_names_are_distinct() -> None:
    with pytest.raises(AiServiceFault, match="have the name"):
        AI_SERVICES.from_toml([LEAST, LEAST])


def test_research_needs_a_project_that_names_the_host() -> None:
    service = [AiServiceKind().to_toml(parse_service(LEAST | {"research": True}))]
    with pytest.raises(SettingsError, match="is for research, and no project"):
        load_settings(environ={}, overrides={"ai_services": service})
    project = '[{ name = "trial", destinations = ["AI.example"] }]'
    load_settings(environ={}, overrides={"ai_services": service, "deidentification": project})


def test_a_rule_names_a_service_that_is_there() -> None:
    rules = '[{ name = "a", analyse = ["lung"] }]'
    with pytest.raises(SettingsError, match="lung is none of the AI services"):
        load_settings(environ={}, overrides={"rules": rules})
    service = [AiServiceKind().to_toml(parse_service(LEAST))]
    settings = load_settings(environ={}, overrides={"rules": rules, "ai_services": service})
    assert settings.rules[0].analyses == ("lung",)
    with pytest.raises(SettingsError, match="analyse must be a list"):
        load_settings(environ={}, overrides={"rules": '[{ name = "a", analyse = ["a:b"] }]'})
