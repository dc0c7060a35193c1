"""The site: pages in their groups, old addresses, and a front page that says what was measured."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from support.pages import DOCS, ROOT, rows_of, text_of

GROUPS = ("Tutorial", "How-to", "Reference", "Explanation")


class _Loader(yaml.SafeLoader):
    """With MkDocs' own tag for the environment."""


_Loader.add_constructor("!ENV", lambda loader, node: loader.construct_sequence(node)[-1])
CONFIG: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
REDIRECTS: dict[str, str] = CONFIG["extra"]["redirects"]

#: Addresses that pages once had, and others link to. None may be taken away.
_OLD = """
    architecture design durability engine limits performance security systems threats tutorial
    tutorial-modality how-to/admit-a-modality how-to/audit how-to/back-up-and-restore
    how-to/certificates how-to/conformance how-to/deleting how-to/dissect how-to/doctor
    how-to/events how-to/everyday-questions how-to/evidence how-to/fuzz how-to/hl7
    how-to/install-as-a-service how-to/monitor how-to/mpps how-to/query-and-retrieve how-to/rules
    how-to/simulate how-to/state-diagram how-to/storage-commitment how-to/tls-profiles
    how-to/upgrade how-to/use-the-clients how-to/worklist how-to/write-a-driver reference/dataset
    reference/engine reference/settings reference/tolerance
"""
OLD_ADDRESSES = tuple(_OLD.split())


def pages_of(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for each in nav:
                yield from pages_of(each)
        case dict():
            for each in nav.values():
                yield from pages_of(each)


def test_the_navigation_has_the_four_groups_and_every_page_once() -> None:
    assert [name for each in CONFIG["nav"] for name in each] == ["Home", *GROUPS]
    listed = list(pages_of(CONFIG["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


@pytest.mark.parametrize("address", OLD_ADDRESSES)
def test_an_old_address_is_a_page_or_leads_to_one(address: str) -> None:
    page = DOCS / f"{address}.md"
    assert page.is_file() != (f"{address}/" in REDIRECTS), address
    assert page.is_file() or (DOCS / REDIRECTS[f"{address}/"]).is_file()


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_a_page_has_one_title_that_fits_its_place(path: Path) -> None:
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text("utf-8"))
    (title,) = re.findall(r"(?m)^# (.+)$", text)
    assert len(title) <= 64, title


def cells(page: str, heading: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in rows_of(text_of(f"docs/{page}"), heading)}


def test_figures_of_the_front_page_are_those_of_the_measurement() -> None:
    measured = cells("explanation/performance.md", "| | Isocenter, full | … relaxed | storescp")
    columns = (0, 2, 4, 5)
    shown = cells("index.md", "| | Isocenter | DCMTK storescp |")
    shown.pop("synced to disk when a C-STORE succeeds")
    assert len(shown) >= 8
    for name, figures in shown.items():
        row = [re.sub(r" \([^)]*\)", "", measured[name][column]) for column in columns]
        assert [figure.strip("*") for figure in figures] == row, name


def test_attacks_of_the_front_page_are_those_that_were_played() -> None:
    played = cells("explanation/attacks.md", "| | Isocenter | DCMTK `dcmqrscp` |")
    shown = cells("index.md", "| | Isocenter | DCMTK dcmqrscp |")
    assert len(shown) >= 4
    for name, results in shown.items():
        for result, whole in zip(results, played[name], strict=True):
            for part in result.split("; "):
                assert part in whole.replace("*", ""), f"{name}: {part}"


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_page_at_each_old_address_leads_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for page in DOCS.rglob("*.md"):
        place = tmp_path / page.relative_to(DOCS).with_suffix("") / "index.html"
        place.parent.mkdir(parents=True)
        place.touch()
    hooks().on_post_build(config=SimpleNamespace(site_dir=str(tmp_path), extra=CONFIG["extra"]))
    assert warnings_of(caplog) == []
    for old, new in REDIRECTS.items():
        text = (tmp_path / old / "index.html").read_text("utf-8")
        (target,) = set(re.findall(r'url=([^"]+)', text))
        led = (tmp_path / old / target).resolve()
        assert led == (tmp_path / new).with_suffix("").resolve(), old
        assert f'href="{target}"' in text


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [("was/", "gone.md", "is no page"), ("is/", "is.md", "cannot lead to another")],
)
def test_a_redirection_that_makes_no_sense_is_a_warning(
    old: str, new: str, warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "is").mkdir()
    (tmp_path / "is" / "index.html").write_text("a page", "utf-8")
    extra = {"redirects": {old: new}}
    hooks().on_post_build(config=SimpleNamespace(site_dir=str(tmp_path), extra=extra))
    (said,) = warnings_of(caplog)
    assert warning in said
    assert (tmp_path / "is" / "index.html").read_text("utf-8") == "a page"


@pytest.mark.parametrize(
    ("html", "is_warned_of"),
    [
        ('<script src="assets/a.js"></script><a href="https://example.org">there</a>', False),
        ('<link rel="canonical" href="https://example.org/">', False),
        ("<script src=https://example.org/a.js></script>", True),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', True),
        ('<link href="https://fonts.example.org" rel="preconnect" crossorigin>', True),
        ('<img alt="badge" src="https://example.org/badge.svg">', True),
    ],
)
def test_a_page_that_loads_from_another_host_is_a_warning(
    html: str, is_warned_of: bool, caplog: pytest.LogCaptureFixture
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert hooks().on_post_page(html, page=page) == html
    assert bool(warnings_of(caplog)) == is_warned_of
