"""Where settings come from, which one wins, and what is said about those that cannot be."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.archive.object_keys import NamingScheme
from isocenter.services.archive.ports import DuplicatePolicy
from isocenter.services.association.peer import Peer
from isocenter.services.composition import build_server_limits
from isocenter.services.net.tls.contexts import ClientCertificates
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import add_options, overrides_from
from isocenter.services.settings.plugins import PluginEntry
from isocenter.services.settings.sections.access import TlsIdentity
from isocenter.services.settings.sections.monitoring import LogLevel
from isocenter.services.settings.sections.storage import default_data_dir
from isocenter.services.settings.settings import SETTINGS, Setting, Settings
from isocenter.services.settings.toml_text import show
from isocenter.services.settings.warnings import warnings

NOWHERE: dict[str, str] = {"XDG_DATA_HOME": "/data"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "isocenter.toml"


def from_file(config: Path, text: str, **environ: str) -> Settings:
    config.write_text(text, "utf-8")
    return load_settings(config, NOWHERE | environ)


def options(*argv: str) -> dict[str, object]:
    parser = argparse.ArgumentParser(prefix_chars="-+", allow_abbrev=False)
    add_options(parser)
    return overrides_from(parser.parse_args(argv))


def test_defaults_are_secure_and_serve() -> None:
    settings = load_settings(None, NOWHERE)
    assert settings == dataclasses.replace(
        Settings(),
        storage=dataclasses.replace(Settings().storage, data_dir=Path("/data/isocenter")),
    )
    assert (settings.server.ae_title, settings.server.host) == ("ISOCENTER", "127.0.0.1")
    assert (settings.server.port, settings.tls.port, settings.tls.host) == (11112, 2762, "0.0.0.0")
    assert settings.plain.enabled
    assert settings.tls.enabled
    assert settings.tls.client_certificates is ClientCertificates.REQUIRED
    assert settings.tls.identity is TlsIdentity.CN
    assert settings.tls.uses_private_ca
    assert settings.storage.durability == "full"
    assert settings.engine_limits() == DEFAULT_LIMITS
    assert settings.ae_titles == {"ISOCENTER"}
    assert warnings(settings) == []


def test_the_later_source_wins(config: Path) -> None:
    config.write_text("[server]\nport = 1\nae_title = 'FILE'\nhost = 'file'\n")
    environ = NOWHERE | {"ISOCENTER__SERVER__PORT": "2", "ISOCENTER__SERVER__AE_TITLE": "ENV"}
    settings = load_settings(config, environ, options("--port", "3"))
    assert (settings.server.port, settings.server.ae_title, settings.server.host) == (
        3,
        "ENV",
        "file",
    )
    named = load_settings(None, {"ISOCENTER_CONFIG": str(config)})
    assert named.server.port == 1
    other = config.with_name("other.toml")
    other.write_text("[server]\nport = 9\n")
    assert load_settings(other, {"ISOCENTER_CONFIG": str(config)}).server.port == 9


def test_every_kind_from_a_file(config: Path) -> None:
    settings = from_file(
        config,
        """
        peers = ["WS@10.0.0.1:104"]
        [server]
        additional_ae_titles = ["OLD", "OLDER"]
        [tls]
        certificate = "own/server.crt"
        key = "/etc/key.pem"
        ca = "ca.crt"
        identity = "any"
        [storage]
        data_dir = "../archive"
        naming = "date"
        duplicates = "reject"
        [deadlines]
        idle = 5
        [log]
        level = "debug"
        """,
    )
    assert settings.server.additional_ae_titles == ("OLD", "OLDER")
    assert settings.tls.certificate == config.parent / "own/server.crt", "relative to the file"
    assert settings.tls.key == Path("/etc/key.pem")
    assert settings.storage.data_dir == config.parent / "../archive"
    assert settings.storage.naming is NamingScheme.DATE
    assert settings.storage.duplicates is DuplicatePolicy.REJECT
    assert settings.deadlines.idle == 5.0
    assert isinstance(settings.deadlines.idle, float)
    assert settings.log.level is LogLevel.DEBUG
    assert settings.peers == (Peer("WS", "10.0.0.1", 104),)
    assert not settings.tls.uses_private_ca


def test_peers_as_tables(config: Path) -> None:
    settings = from_file(
        config,
        """
        [[peers]]
        ae_title = "WS"
        host = "ws.example.org"
        port = 2762
        tls = true
        verify_host = false
        """,
    )
    assert settings.peers == (Peer("WS", "ws.example.org", 2762, tls=True, verify_host=False),)


def test_a_name_of_a_certificate_is_nothing_without_TLS(config: Path) -> None:
    peer = (
        '[[peers]]\nae_title = "WS"\nhost = "10.0.0.1"\nport = 2762\nserver_name = "ws.example"\n'
    )
    with pytest.raises(SettingsError, match="server_name is about TLS; add tls = true"):
        from_file(config, peer)
    (found,) = from_file(config, f"{peer}tls = true\n").peers
    assert (found.tls, found.server_name) == (True, "ws.example")


def test_every_kind_from_the_environment() -> None:
    settings = load_settings(
        None,
        {
            "ISOCENTER__PLAIN__ENABLED": "no",
            "ISOCENTER__ACCESS__ALLOW": "CT_*, WS1",
            "ISOCENTER__PEERS": "A@a:1,B:b:2,C@[::1]:3",
            "ISOCENTER__STORAGE__DATA_DIR": "here",
            "ISOCENTER__DEADLINES__IDLE": "0.5",
            "ISOCENTER_OTHER": "is none of ours",
            "HOME": "/home/a",
        },
    )
    assert not settings.plain.enabled
    assert settings.access.allow == ("CT_*", "WS1")
    assert [str(peer) for peer in settings.peers] == ["A@a:1", "B@b:2", "C@[::1]:3"]
    assert settings.storage.data_dir == Path("here")
    assert settings.deadlines.idle == 0.5


def test_every_option_of_serve(tmp_path: Path) -> None:
    names = "--ae-title --host --port --tls-host --tls-port --tls-cert --tls-key --tls-ca"
    names += " --tls-profile --tls-identity --tls-crl --allow --peer --workers --durability"
    names += " --audit-collector --log-level --log-format --data-dir --capture"
    names += " --monitoring-port --http-host --http-port --https-host --https-port"
    names += " --plugin --objects --database --node"
    assert {s.flag for s in SETTINGS if s.flag} == set(names.split())
    assert {s.off_flag for s in SETTINGS if s.off_flag} == {
        "--no-plain", "--no-tls", "--no-audit", "--no-monitoring", "--no-http",
    }  # fmt: skip
    given_options = options(
        *("--allow", "A,1", "--allow", "B*", "--peer", "A@a:1", "--peer", "B:b:2", "--no-plain"),
        *("--tls-profile", "tls13", "--log-format", "json", "--data-dir", ":memory:"),
    )
    settings = load_settings(None, NOWHERE, given_options)
    assert settings.access.allow == ("A,1", "B*")
    assert settings.peers == (Peer("A", "a", 1), Peer("B", "b", 2))
    assert not settings.plain.enabled
    assert settings.tls.profile == "tls13"
    assert settings.storage.is_in_memory
    assert options() == {}


def test_plugins_are_named_and_nothing_of_them_is_looked_at(tmp_path: Path) -> None:
    settings = load_settings(None, NOWHERE, options("--plugin", "notes", "--plugin", "raw-data"))
    assert settings.plugins == (PluginEntry("notes"), PluginEntry("raw-data"))
    assert (
        load_settings(None, {"ISOCENTER__PLUGINS": "notes, raw-data"}).plugins == settings.plugins
    )
    config = tmp_path / "isocenter.toml"
    config.write_text(
        "[[plugins]]\nname = 'notes'\nfolder = 'in'\nlimit = 7\nlist = ['a', 1]\nyes = true\n"
    )
    settings = load_settings(config, NOWHERE)
    given = (("folder", "in"), ("limit", 7), ("list", ("a", 1)), ("yes", True))
    assert settings.plugins == (PluginEntry("notes", given, tmp_path),)
    config.write_text(show(settings))
    assert load_settings(config, NOWHERE) == settings
    config.write_text("plugins = ['notes']")
    assert load_settings(config, NOWHERE).plugins == (PluginEntry("notes", (), tmp_path),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1", "server.prot .*did you mean server.port"),
        ("[sever]\nport = 1", "sever .*did you mean server"),
        ("[xyzzy]\na = 1", "xyzzy .*there are server, plain"),
        ("[log]\nxyzzy = 1", "in log there are level, format"),
        ("[log]\nae_title = 'A'", "did you mean server.ae_title"),
        ("server = 1", "server = 1 .*must be a table"),
        ("[server]\nport = '1'", "server.port = '1' .*whole number from 0 to 65535"),
        ("[server]\nport = true", "server.port = True .*whole number"),
        ("[server]\nport = 65536", "server.port = 65536 "),
        ("[server]\nport = -1", "server.port = -1 "),
        ("[server]\nport = 1.5", "server.port = 1.5 "),
        ("[server]\nae_title = ''", "server.ae_title = '' .*1 to 16"),
        ("[server]\nae_title = 'ABCDEFGHIJKLMNOPQ'", "1 to 16"),
        ("[server]\nae_title = 'A\\B'", "backslash"),
        ("[server]\nae_title = 7", "server.ae_title = 7 "),
        ("[server]\nmax_pdu_length = 100", "from 4096 to .*or 0: no limit"),
        ("[plain]\nenabled = 1", "plain.enabled = 1 .*true or false"),
        ("[tls]\nprofile = 'bcp196'", "there is no TLS profile .bcp196.: bcp195, "),
        ("[tls]\nidentity = 'CN'", "cn or any"),
        ("[tls]\ncertificate = 1", "a path"),
        ("[access]\nallow = 'A'", "access.allow = 'A' .*a list"),
        ("[access]\nallow = ['A', 1]", "access.allow, no. 2 = 1 .*: must be an AE title"),
        ("[[plugins]]\nfolder = 'x'", "plugins, no. 1 .*: name is missing; must be the name of"),
        (
            "[[plugins]]\nname = '../x'",
            "plugins, no. 1: name = '../x' .*must be the name",
        ),
        (
            "[[plugins]]\nname = 'x'\nwhen = 1979-05-27",
            "plugins, no. 1: when = .*must be text",
        ),
        ("[[plugins]]\nname = 'x'\nin = [[1]]", "plugins, no. 1: in = .*: must be text, a whole"),
        ("plugins = 'x'", "plugins = 'x' .*: must be a list"),
        ("[deadlines]\nidle = 0", "deadlines.idle = 0 .*above 0"),
        ("[deadlines]\nidle = 1" + "0" * 400, "deadlines.idle = 1000"),
        ("[server]\nport = 1" + "0" * 5000, "not TOML"),
        ("[access]\nallow = " + "[" * 100_000, "not TOML"),
        ("[deadlines]\nidle = nan", "deadlines.idle = nan"),
        ("[deadlines]\nidle = inf", "deadlines.idle = inf"),
        ("peers = ['A']", "AET@host:port"),
        (
            "[[peers]]\nae_title = 'A'\nhost = 'a'",
            "port is missing.*a table with ae_title, host and port",
        ),
        ("[[peers]]\nae_title = 'A'\nhost = 'a'\nport = 1\ntsl = true", "there is no 'tsl'"),
        (
            "[[peers]]\nae_title = 'A'\nhost = 'a'\nport = 1\n[[peers]]\nport = 0",
            "peers, no. 2 .*, line 5.: ae_title is missing",
        ),
        ("[transfer_syntaxes]\npreference = ['1.2..3']", "a transfer syntax by UID"),
        ("peers = ['A@a:1', 'A@b:2']", "two peers have the AE title A"),
        ("[server\n", "not TOML: .*line 1"),
        ("[plain]\nenabled = false\n[tls]\nenabled = false", "enable one of them"),
        ("[tls]\nkey = 'k'", "goes together with tls.certificate"),
        ("[tls]\nca = 'k'", "needs tls.certificate and tls.key"),
        ("[tls]\ncrl = 'k'", "needs tls.ca"),
        ("[tls]\ncertificate = 'c'\nkey = 'k'", "needs tls.ca"),
        ("[server]\nport = 2762", "need two ports"),
        ("[server]\nworkers = 2\n[storage]\ndata_dir = ':memory:'", "an archive of its own"),
        (
            "[objects]\nurl = 's3://pacs'\n[storage]\ndata_dir = ':memory:'",
            "needs a data directory",
        ),
        ("[worklist]\nenabled = false\nfolder = 'f'", "is not looked at while"),
        ("peers = ['A@a:1']\n[mpps]\nenabled = false\nnotify = ['A']", "hear nothing while"),
        (
            "[server]\nworkers = 4\n[limits]\nbytes_in_flight = 4194303",
            "leaves each of 4 workers less than 1 MiB",
        ),
    ],
)
def test_what_cannot_be(config: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        from_file(config, text)
    assert str(config) in str(caught.value), "says where it came from"
    assert "\n" not in str(caught.value)


def test_where_it_came_from() -> None:
    with pytest.raises(SettingsError, match=r"environment variable ISOCENTER__SERVER__PORT"):
        load_settings(None, {"ISOCENTER__SERVER__PORT": "x"})
    with pytest.raises(SettingsError, match=r"did you mean server\.port"):
        load_settings(None, {"ISOCENTER__SERVER__PROT": "1"})
    with pytest.raises(SettingsError, match=r"server\.port = 'x' \(option --port\)"):
        load_settings(None, {}, options("--port", "x"))
    with pytest.raises(SettingsError, match=r"peers, no. 2 = 'nonsense' \(option --peer\)"):
        load_settings(None, {}, options("--peer", "A@a:1", "--peer", "nonsense"))
    with pytest.raises(SettingsError, match="no such setting"):
        load_settings(None, {}, {"server.prot": "1"})


def test_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"option --config: cannot read .*No such file"):
        load_settings(tmp_path / "none.toml", {})
    with pytest.raises(SettingsError, match="environment variable ISOCENTER_CONFIG: cannot read"):
        load_settings(None, {"ISOCENTER_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(binary, {})
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SettingsError, match="larger than"):
        load_settings(large, {})


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    variable = "ISOCENTER__TLS__KEY_PASSWORD"
    settings = load_settings(None, {f"{variable}_FILE": str(secret)})
    assert settings.tls.key_password == "open sesame"
    assert "sesame" not in repr(settings)
    assert "sesame" not in show(settings)
    assert "# key_password = (hidden)" in show(settings)
    with pytest.raises(SettingsError, match="set one"):
        load_settings(None, {variable: "a", f"{variable}_FILE": str(secret)})
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(None, {f"{variable}_FILE": str(tmp_path / "none")})
    with pytest.raises(SettingsError, match="only secrets are read from files"):
        load_settings(None, {"ISOCENTER__SERVER__PORT_FILE": str(secret)})
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {}, {"tls.key_password": 1234})
    assert "1234" not in str(caught.value)


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {}, {"server.ae_title": "A" * 100_000})
    assert len(str(caught.value)) < 300


def test_what_is_shown_can_be_loaded(config: Path) -> None:
    for overrides in (
        {},
        {
            "server.ae_title": 'A "B"',
            "access.allow": ["CT*", "W'S"],
            "peers": ["A@a:1", "B@[::1]:2"],
            "storage.data_dir": "/tmp/with \u00e4 \x7f",
            "tls.certificate": "/c",
            "tls.key": "/k",
            "tls.ca": "/a",
            "log.format": "json",
            "deadlines.idle": 2.5,
        },
    ):
        settings = load_settings(None, NOWHERE, overrides)
        text = show(settings)
        tomllib.loads(text)
        assert from_file(config, text) == settings


def test_every_setting_is_described_and_has_a_variable() -> None:
    assert len({s.key for s in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.help
        assert setting.kind.allowed
        if setting.default is not None and not setting.is_secret:
            shown = tomllib.loads(f"x = {setting.kind.to_toml(setting.default)}")["x"]
            assert setting.kind.from_toml(shown) == setting.default
    assert {s.variable for s in SETTINGS} >= {"ISOCENTER__SERVER__PORT", "ISOCENTER__PEERS"}


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None, NOWHERE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"server.host": "0.0.0.0"}, ["clear text on 0.0.0.0:11112", "--allow"]),
        ({"server.host": "0.0.0.0", "access.allow": ["A"]}, ["clear text"]),
        ({"server.host": "::"}, ["clear text on", "--allow"]),
        ({"server.host": "0.0.0.0", "plain.enabled": False}, []),
        ({"server.host": "localhost"}, []),
        ({"server.host": "127.8.8.8"}, []),
        ({"server.host": "::1"}, []),
        ({"tls.identity": "any"}, ["any AE title"]),
        ({"tls.client_certificates": "optional"}, ["without a certificate"]),
        ({"storage.durability": "relaxed"}, ["power failure"]),
        ({"objects.url": "s3://pacs?endpoint=http://s3.example.org:9000"}, ["in the clear"]),
        ({"objects.url": "s3://pacs?endpoint=http://127.0.0.1:9000"}, []),
        ({"objects.url": "az://pacs?account=hospital"}, []),
        ({"storage.data_dir": ":memory:"}, ["in memory"]),
    ],
)
def test_what_is_warned_of(overrides: dict[str, object], said: list[str]) -> None:
    found = warnings(load_settings(None, NOWHERE, overrides))
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert part in line


def test_any_called_ae_title(config: Path) -> None:
    settings = from_file(config, "[server]\nadditional_ae_titles = ['B']")
    assert settings.ae_titles == {"ISOCENTER", "B"}
    settings = from_file(config, "[server]\naccept_any_called_ae_title = true")
    assert settings.ae_titles == frozenset()


def test_where_the_archive_lies() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/x"}) == Path("/x/isocenter")
    assert default_data_dir({"XDG_DATA_HOME": "relative"}).is_absolute()
    assert default_data_dir({}).name == "isocenter"


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("A@b:1", Peer("A", "b", 1)),
        ("A:b:1", Peer("A", "b", 1)),
        ("A B@b.c:65535", Peer("A B", "b.c", 65535)),
        ("A:B@b:1", Peer("A:B", "b", 1)),
        ("A@[fe80::1]:104", Peer("A", "fe80::1", 104)),
        ("A:[fe80::1]:104", Peer("A", "fe80::1", 104)),
    ],
)
def test_peers_as_text(text: str, peer: Peer) -> None:
    assert Peer.parse(text) == peer
    assert Peer.parse(str(peer)) == peer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "A@b",
        "A@b:0",
        "A@b:65536",
        "A@b:x",
        "@b:1",
        "A@:1",
        "A:b",
        "A@fe80::1:104",
        "A@b c:1",
        "ABCDEFGHIJKLMNOPQ@b:1",
        "A\\B@b:1",
        "A@b:1:2",
        "A@b:١",
    ],
)
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(ValueError):
        Peer.parse(text)


@given(st.text(st.sampled_from("AB@:[]1. \\\u0661x"), max_size=20) | st.text(max_size=20))
def test_any_text_is_a_peer_or_a_value_error(text: str) -> None:
    try:
        peer = Peer.parse(text)
    except ValueError:
        return
    assert Peer.parse(str(peer)) == peer


def outcome(key: str, value: object) -> str:
    """``loaded``, or what is said about it."""
    try:
        load_settings(None, NOWHERE, {key: value})
    except SettingsError as error:
        return str(error)
    return "loaded"


@given(st.sampled_from(SETTINGS), st.text(max_size=30))
def test_any_text_is_a_value_or_a_settings_error(setting: Setting, text: str) -> None:
    assert outcome(setting.key, text)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ae_title", "host", "port", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(st.sampled_from(SETTINGS), json_like)
def test_any_value_is_allowed_or_a_settings_error(setting: Setting, value: object) -> None:
    assert outcome(setting.key, value)


@pytest.mark.parametrize(
    ("connections", "associations", "expected"),
    [(10, 1_000, 10), (1_000, 10, 10), (10, 0, 10), (0, 10, 10)],
)
def test_there_are_no_more_associations_than_connections(
    connections: int, associations: int, expected: int
) -> None:
    settings = load_settings(
        environ={},
        overrides={
            "server.max_connections": connections, "server.max_associations": associations,
        },
    )  # fmt: skip
    assert build_server_limits(settings).associations == expected
