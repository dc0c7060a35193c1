"""Documentation of several versions in one folder: list, latest, replacing, removing."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from support.pages import DOCS


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found


versions: Any = module("versions")


def pages(folder: Path, text: str, *addresses: str) -> Path:
    for address in ("", *addresses):
        place = folder / address / "index.html"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
    return folder


def add(site: Path, tmp_path: Path, version: str, *addresses: str) -> None:
    built = pages(tmp_path / f"built-{version}", f"pages of {version}", *addresses)
    versions.add(site, versions.Version.parse(version), built)


def listed(site: Path) -> list[tuple[str, str, list[str]]]:
    entries = json.loads((site / "versions.json").read_text("utf-8"))
    return [(one["version"], one["title"], one["aliases"]) for one in entries]


def leads_to(site: Path, address: str) -> Path:
    """Where a page leads, however deep it lies."""
    text = (site / address / "index.html").read_text("utf-8")
    (target,) = set(re.findall(r'url=([^"]+)', text))
    assert f'href="{target}"' in text
    place: Path = (site / address / target / "index.html").resolve()
    assert place.is_file()
    return place


def test_versions_stand_side_by_side_the_newest_first(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for version in ("0.9.1", "dev", "0.10", "0.2.0"):
        add(site, tmp_path, version, "how-to/monitor", "gone")
    assert listed(site) == [
        ("dev", "dev", []),
        ("0.10", "0.10", ["latest"]),
        ("0.9", "0.9.1", []),
        ("0.2", "0.2.0", []),
    ]
    assert leads_to(site, "") == site / "0.10" / "index.html"
    for address in ("", "how-to/monitor"):
        assert leads_to(site, f"latest/{address}") == site / "0.10" / address / "index.html"
    assert (site / "0.9" / "index.html").read_text("utf-8") == "pages of 0.9.1"


def test_a_patch_takes_the_place_of_its_release_and_nothing_else_is_touched(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    add(site, tmp_path, "0.2.0", "gone")
    add(site, tmp_path, "0.3.0")
    before = (site / "0.3" / "index.html").stat().st_mtime_ns
    add(site, tmp_path, "0.2.1", "new")
    assert listed(site)[1] == ("0.2", "0.2.1", [])
    assert not (site / "0.2" / "gone").exists()
    assert (site / "0.2" / "new" / "index.html").is_file()
    assert (site / "0.3" / "index.html").stat().st_mtime_ns == before
    assert {path.name for path in site.iterdir()} == {
        "0.2", "0.3", "latest", "index.html", "versions.json",
    }  # fmt: skip


def test_a_version_is_taken_away_and_latest_leads_to_the_one_before(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for version in ("0.2", "0.3", "dev"):
        add(site, tmp_path, version, f"only-{version}")
    assert versions.main([str(site), "--remove", "0.3.7"]) == 0
    assert [one[0] for one in listed(site)] == ["dev", "0.2"]
    assert leads_to(site, "latest/only-0.2") == site / "0.2" / "only-0.2" / "index.html"
    assert not (site / "latest" / "only-0.3").exists()
    versions.main([str(site), "--remove", "0.2"])
    # There is no release: what there is is no alias of it, and the front page leads there.
    assert listed(site) == [("dev", "dev", [])]
    assert leads_to(site, "") == site / "dev" / "index.html"
    versions.main([str(site), "--remove", "dev"])
    assert listed(site) == []
    assert not (site / "index.html").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--version", "0.2.0.dev0"), "is no version: 0.2.1, 0.2 or dev"),
        (("--version", "../x"), "is no version"),
        (("--version", "latest"), "is no version"),
        (("--remove", "0.9"), "has no pages of 0.9; it has: none"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    words: tuple[str, ...], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert versions.main([str(tmp_path / "site"), *words]) == 2
    assert fault in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("content", [None, "no list", '[{"title": "x"}]'])
def test_a_folder_of_something_else_is_left_alone(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").touch()
    if content is not None:
        (tmp_path / "versions.json").write_text(content, "utf-8")
    before = sorted(tmp_path.iterdir())
    assert versions.main([str(tmp_path), "--version", "0.2"]) == 2
    assert "no folder of versions" in (said := capsys.readouterr().err) or "cannot be read" in said
    assert sorted(tmp_path.iterdir()) == before


def test_pages_ask_for_the_list_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = module("site_hooks")
    for value, wanted in (("", None), ("1", {"provider": "mike", "default": "latest"})):
        monkeypatch.setenv(versions.VARIABLE, value)
        config = SimpleNamespace(extra={})
        assert hooks.on_config(config) is config
        assert config.extra.get("version") == wanted


@pytest.mark.slow
def test_the_pages_of_this_checkout_as_a_version(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    site = tmp_path / "site"
    assert versions.main([str(site), "--version", "9.8.7"]) == 0
    page = (site / "9.8" / "how-to" / "monitor" / "index.html").read_text("utf-8")
    config = json.loads(re.findall(r'<script id="__config"[^>]*>(.*?)</script>', page)[0])
    assert config["version"] == {"provider": "mike", "default": "latest"}
    # The selector looks for the list beside the folder of the version.
    assert config["base"] == "../.."
    assert listed(site) == [("9.8", "9.8.7", ["latest"])]
    assert leads_to(site, "latest/how-to/monitor").read_text("utf-8") == page
