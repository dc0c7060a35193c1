"""Settings in YAML, and under the names of other servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load, load_settings
from isocenter.services.settings.other_names import OTHER_NAMES, Fixed, Foreign
from isocenter.services.settings.settings import SETTINGS

#: As other servers are configured.
PRODUCTION = """\
server:
  ae_title: MY_PACS
  port: 11112
  bind: 127.0.0.2
  max_associations: 100
  max_pdu_size: 16384
  idle_timeout_seconds: 300
  tls:
    enabled: true
    port: 2763
    min_version: "1.3"
    certificate: server.crt
    private_key: server.key
    ca_certificate: ca.crt
    require_client_cert: true
access_control:
  enabled: true
  allowed_ae_titles: ["CT_*", "WORKSTATION_1"]
  default_role: none
peers:
  - {ae_title: VIEWER, host: 10.0.0.10, port: 11113, tls: false}
storage:
  backend: file
  root_path: ./archive
  naming_scheme: date_based
  duplicate_policy: reject
database: {wal_mode: true}
rest_api: {enabled: true, port: 8081, cors_enabled: false}
web:
  oauth: {issuer: "https://id.example", audience: pacs, clock_skew_seconds: 30}
audit: {source_id: PACS_1, protocol: tls, host: audit.local, port: 6514}
logging: {level: trace, max_size_mb: 100, max_files: 7, console: true}
"""


def written(tmp_path: Path, text: str, name: str = "pacs.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def faults(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environ={}, changes={})
    return str(caught.value)


def test_a_configuration_with_the_names_of_others(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, PRODUCTION), environ={}, changes={})
    assert settings.server.ae_title == "MY_PACS"
    assert settings.server.host == "127.0.0.2"
    assert settings.server.max_pdu_length == 16384
    assert settings.deadlines.idle == 300
    assert (settings.tls.port, settings.tls.profile) == (2763, "tls13")
    assert settings.tls.key == tmp_path / "server.key"
    assert settings.tls.client_certificates.value == "required"
    assert settings.access.allow == ("CT_*", "WORKSTATION_1")
    assert str(settings.peers[0]) == "VIEWER@10.0.0.10:11113"
    assert Path(settings.storage.data_dir) == tmp_path / "archive"
    assert settings.storage.naming.value == "date"
    assert settings.storage.duplicates.value == "reject"
    assert settings.web.port == 8081
    assert settings.identity.jwt_issuer == "https://id.example"
    assert settings.audit.collectors[0].port == 6514
    assert settings.log.level.value == "debug"
    assert (settings.log.rotate, settings.log.keep_files) == (100 << 20, 7)


def test_yaml_and_toml_say_the_same(tmp_path: Path) -> None:
    toml = '[server]\nport = 0\nbind = "::1"\n[tls]\nenabled = false\n'
    yaml = "server: {port: 0, bind: '::1'}\ntls:\n  enabled: false\n"
    assert load_settings(written(tmp_path, toml, "a.toml"), {}, changes={}) == load_settings(
        written(tmp_path, yaml, "a.yml"), {}, changes={}
    )


def test_every_other_name_leads_to_a_setting_and_hides_none() -> None:
    own = {setting.key for setting in SETTINGS}
    for name, other in OTHER_NAMES.items():
        if isinstance(other, Foreign):
            assert other.key in own, name
            assert name not in own or name == other.key
        else:
            assert isinstance(other, Fixed)
            assert name not in own
            assert other.cure


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server: {prot: 1}", "server.prot ({}, line 1): no such setting; did you mean"),
        ("\nserver:\n  tls:\n    prot: 1", "server.tls.prot ({}, line 4): no such setting"),
        ("server:\n  tls:\n    port: x", "tls.port = 'x' ({}, line 3): must be a whole number"),
        ("server:\n  port: 1\n  port: 2", "line 3: port stands there twice"),
        ("a: &x [1]\nb: *x", "line 1: anchors and aliases are not taken"),
        ("server: !!python/object:os.system x", "python/object:os.system is no value"),
        ("server:\n  port: !!int ''", "line 2: tag:yaml.org,2002:int has no such value"),
        ("tls:\n  enabled: !!bool x", "line 2: tag:yaml.org,2002:bool has no such value"),
        ("- 1", "it has to be sections"),
        ("server: [", "not YAML for settings"),
        ("database: {wal_mode: false}", "database.wal_mode ({}, line 1): the index always has"),
        ("database: {path: pacs.db}", "the index is index.db in storage.data_dir"),
        ("server: {host: h, bind: g}", "server.host says it, too; leave one out"),
        ("audit: {host: h}", "a collector of audit messages has host and port"),
        ("security: {anonymization: {auto_anonymize: true}}", "isocenter dcmanonymize"),
        ("storage: {backend: s3}", "objects.url names a bucket"),
        ("tls: 5\nserver: {tls: {port: 1}}", "tls = 5 ({}, line 1): must be a table"),
        ("peers:\n  - {ae_title: A, host: h, port: 1}\n  - {ae_title: B}", "({}, line 3)"),
    ],
)
def test_what_cannot_be_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    assert says.replace("{}", str(path)) in faults(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "server: {}\n"])
def test_an_empty_document_is_one_without_settings(tmp_path: Path, text: str) -> None:
    loaded = load(written(tmp_path, text), environ={}, changes={})
    assert not loaded.faults
    assert not loaded.sources


def test_a_day_stays_text_and_deep_nesting_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "audit: {site_id: 2026-11-30}")
    assert load_settings(path, environ={}, changes={}).audit.site_id == "2026-11-30"
    assert "nested too deep" in faults(written(tmp_path, "a: " + "[" * 50 + "]" * 50))
    assert "nested too deep" in faults(written(tmp_path, "[" * 100_000))
