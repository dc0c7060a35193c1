"""Settings explain themselves: on the page, on the command line, and when they cannot be."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from isocenter.services.composition.reloading import RELOADED, _exchanged, _others
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.explanation import about, explain
from isocenter.services.settings.loading import load, load_settings
from isocenter.services.settings.settings import SETTINGS, Setting, Settings
from isocenter.services.settings.toml_lines import lines_of
from support.processes import isocenter_command

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "settings_reference.py"
FAULTY = """\
peers = ["A@a:1", "B", "C@c:0"]

[server]
port = "x" # a comment

[access]
allow = [
    "CT1",
    "",
    "\\\\",
]
[[rules]]
name = "one"
frward = ["A"]

[tls]
crl = "revoked.pem"
[sever]
port = 1
[mpps]
notify = ["D"]
"""


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_what_the_table_gives() -> None:
    module = reference()
    assert module.PAGE.read_text("utf-8") == module.page(), f"run {module.MAKE}"


def test_no_setting_stands_undocumented() -> None:
    page = reference().page()
    for setting in SETTINGS:
        (entry,) = re.findall(rf"(?ms)^### {re.escape(setting.key)}\n(.*?)(?=^##|\Z)", page)
        for name in ("values", "default", "set by", "a change"):
            assert re.search(rf"(?m)^- {name}: \S", entry), (setting.key, name)
        said = explain(setting, RELOADED)[0].text
        assert len(said.split()) > 1, f"{setting.key}: {said}"
        assert setting.off_help or not setting.off_flag
        section, _, name = setting.key.partition(".")
        assert about(section) or not name, f"the section {section} says nothing of itself"


def other_value(setting: Setting) -> Any:
    """Some value that the setting does not have by default; its type does not matter here."""
    return object() if setting.default != () else (object(),)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_what_a_reload_takes_is_what_is_said(setting: Setting) -> None:
    section, _, name = setting.key.partition(".")
    old, value = Settings(), other_value(setting)
    changed = replace(getattr(old, section), **{name: value}) if name else value
    new = replace(old, **{section: changed})
    is_taken = _exchanged(old, new) == new
    assert is_taken == (setting.key in RELOADED)
    assert _others(old, new) == ([] if is_taken else [setting.key])


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(FAULTY, "utf-8")
    environ = {"ISOCENTER__LOG__LEVEL": "loud", "ISOCENTER__LOG__LVL": "info"}
    with pytest.raises(SettingsError) as caught:
        load_settings(config, environ, {"storage.naming": "none"})
    told = str(caught.value).splitlines()
    starts = [
        f"peers, no. 2 = 'B' ({config}, line 1): must be AET@host:port",
        f"peers, no. 3 = 'C@c:0' ({config}, line 1): must be AET@host:port",
        f"server.port = 'x' ({config}, line 4): must be a whole number",
        f"access.allow, no. 2 = '' ({config}, line 7): must be an AE title",
        f"access.allow, no. 3 = '\\\\' ({config}, line 7): must be an AE title",
        f"rules, no. 1 ({config}, line 12): rule 'one': there is no 'frward'",
        f"sever ({config}, line 18): no such setting; did you mean server?",
        "log.level = 'loud' (environment variable ISOCENTER__LOG__LEVEL): must be debug",
        "log.lvl (environment variable ISOCENTER__LOG__LVL): no such setting",
        "storage.naming = 'none' (option storage.naming): must be uid",
        f"tls.crl ({config}, line 17): needs tls.ca",
    ]
    assert told[0] == f"{len(starts)} faults in the settings:"
    assert len(told) == len(starts) + 1, "D may be among the peers that could not be read"
    for line, start in zip(told[1:], starts, strict=True):
        assert line.strip().startswith(start)


def test_faults_beyond_counting_are_cut(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("".join(f"x{number} = 1\n" for number in range(1_000)))
    with pytest.raises(SettingsError, match="1000 faults") as caught:
        load_settings(config, {})
    assert len(str(caught.value).splitlines()) < 60
    assert str(caught.value).endswith("and 950 more")


def test_where_each_is_from(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[log]\n\nlevel = 'debug'\n[server]\nport = 1\nhost = 'a'\n")
    loaded = load(config, {"ISOCENTER__SERVER__HOST": "b"}, {"server.ae_title": "C"})
    assert loaded.faults == ()
    assert loaded.sources == {
        "log.level": f"{config}, line 3",
        "server.port": f"{config}, line 5",
        "server.host": "environment variable ISOCENTER__SERVER__HOST",
        "server.ae_title": "option --ae-title",
    }


def test_lines_of_every_way_to_write_a_value() -> None:
    text = '''\
# a comment
server.port = 1
"log" . 'level' = "a"
peers = [ # [none]
  "A",

  # of = these
  "[B]", { a = 1 },
]
rules = """
[tls]
port = 2
"""

  [ tls ]
port = 3
[events]
quiet_by_modality = { US = 1, CR = 2 }
complete_by = ["quiet",
  "mpps"]
[[events.consumers]]
name = "a"
[[events.consumers]]
name = "b"
[[retention]]
[[retention]]
'''.replace("\n", "\r\n")
    assert tomllib.loads(text)
    found = lines_of(text)
    assert {key: found[key] for key in found if "name" not in key} == {
        "server": 2, "server.port": 2, "log": 3, "log.level": 3, "peers": 4, "rules": 10,
        "tls": 15, "tls.port": 16, "events": 17, "events.quiet_by_modality": 18,
        "events.complete_by": 19, "events.consumers": 21, "events.consumers, no. 1": 21,
        "events.consumers, no. 2": 23, "retention": 25, "retention, no. 1": 25,
        "retention, no. 2": 26,
    }  # fmt: skip


def test_explain_on_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[log]\nlevel = 'debug'\n[tls]\nkey_password = 'sesame'\n")
    done = isocenter_command("config", "explain", "log.level", "--config", config)
    assert done.returncode == 0
    assert "lowest severity" in done.stdout
    assert "debug or info or warning or error" in done.stdout
    assert f'"debug" ({config}, line 2)' in " ".join(done.stdout.split())
    assert "isocenter reload suffices" in done.stdout
    done = isocenter_command("config", "explain", "--config", config)
    assert done.returncode == 0
    assert all(f"\n{setting.key}\n" in done.stdout for setting in SETTINGS)
    assert "sesame" not in done.stdout
    done = isocenter_command("config", "explain", "plain", "--no-plain")
    assert "false (option --no-plain)" in done.stdout
    done = isocenter_command("config", "explain", "log.lvel")
    assert done.returncode == 2
    assert "did you mean log.level?" in done.stdout
    config.write_text("[log]\nlevel = 'loud'\n[server]\nport = -1\n")
    done = isocenter_command("config", "explain", "log.level", "--config", config)
    assert done.returncode == 2
    assert "lowest severity" in done.stdout
    assert "server.port = -1" in done.stdout
    assert "now " not in done.stdout


def test_a_start_tells_all_that_is_in_its_way(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f"[storage]\ndata_dir = '{tmp_path / 'data'}'\n[monitoring]\ntoken_file = 'token'\n"
        "[tls]\ncertificate = 'a.crt'\nkey = 'a.key'\nca = 'ca.crt'\n"
    )
    done = isocenter_command("serve", "--config", config, "--check-config")
    assert done.returncode == 2
    assert str(tmp_path / "token") in done.stdout
    assert str(tmp_path / "a.crt") in done.stdout
    assert not (tmp_path / "data").exists()
