"""Writes the reference page of the settings: ``reference/settings.md``.

    python docs/settings_reference.py

It comes from the table that settings are read by, and from what a reload exchanges; a test
compares the page with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from isocenter.services.composition.reloading import RELOADED
from isocenter.services.settings.explanation import about, explain
from isocenter.services.settings.settings import SETTINGS, Setting

PAGE = Path(__file__).resolve().parent / "reference" / "settings.md"
MAKE = "python docs/settings_reference.py"
_HEAD = f"""\
<!-- Made by `{MAKE}`; edit the table in the code instead. -->

# Settings

All settings of `isocenter serve`. A setting can be in the TOML file (`--config FILE`, or
`ISOCENTER_CONFIG`), in the environment, and in an option of the command line: the environment
overrides the file, and an option overrides both. A list replaces the whole earlier list. Paths in
the file are relative to it. A file called `*.yaml` or `*.yml` is YAML, without anchors, aliases and
tags; its sections and names are the same. Names that other PACS servers have for a setting
(`root_path`, `private_key`, `audit_log_path` …) are taken for ours; of what
there is nothing to set of, a value that says what is so anyway is passed over, and any other is an
error that says what to do instead.

`isocenter config explain KEY` prints the same, with the current value and where it was set;
`isocenter serve --check-config` reports all errors at once. Where it says so below, a change is
taken by `isocenter reload` (or SIGHUP), without ending associations; other settings need a restart.

Settings can also be changed while the server runs, by its pages, by `isocenter config set` and by
its [API](../how-to/administration-api.md). They are checked like all others, kept in
`settings.json` of the data directory, used at once where a reload would use them, and the audit
trail tells who changed them. They override the file; the environment and options override them, and
are changed where they stand. Paths are relative to the data directory. Secrets and
`storage.data_dir` are not changed that way. `isocenter config reset` takes a change back, also
one that keeps the server from starting.
"""
#: A section or setting that a page explains further.
_PAGES = {
    "access": "../how-to/access-control.md",
    "ai_services": "../how-to/ai-services.md",
    "audit": "../how-to/audit.md",
    "commitment": "../how-to/storage-commitment.md",
    "events": "../how-to/events.md",
    "hl7": "../how-to/hl7.md",
    "limits": "limits.md",
    "monitoring": "../how-to/monitor.md",
    "mpps": "../how-to/mpps.md",
    "plugins": "../how-to/write-a-service.md",
    "deidentification": "../how-to/de-identify.md#from-an-archive",
    "retention": "../how-to/deleting.md",
    "tiers": "../how-to/storage-tiers.md",
    "rules": "../how-to/rules.md",
    "schedules": "../how-to/schedules.md",
    "tls": "../how-to/tls-profiles.md",
    "worklist": "../how-to/worklist.md",
}
_MARKUP = str.maketrans({"<": "&lt;", "*": r"\*", "_": r"\_", "|": r"\|"})


def _prose(text: str) -> str:
    """Escaped, but for what stands between back quotes."""
    parts = text.split("`")
    return "`".join(part if i % 2 else part.translate(_MARKUP) for i, part in enumerate(parts))


def page() -> str:
    """``reference/settings.md``."""
    lines = [_HEAD]
    for section, settings in groupby(SETTINGS, lambda setting: setting.key.partition(".")[0]):
        lines += [f"## {section}", ""]
        text = _prose(about(section))
        more = f"[More]({_PAGES[section]})." if section in _PAGES else ""
        if text or more:
            lines += [" ".join(filter(None, (text, more))), ""]
        for setting in settings:
            lines += _entry(setting)
    return "\n".join(lines).rstrip() + "\n"


def _entry(setting: Setting) -> Iterator[str]:
    first, *others = explain(setting, RELOADED)
    meaning = first.text[0].upper() + first.text[1:]
    yield from (f"### {setting.key}", "", f"{_prose(meaning)}.", "")
    for name, text in others:
        shown = f"`{text}`" if name == "set by" else _prose(text)
        if name == "default" and not setting.default_text and setting.default is not None:
            shown = f"`{text}`"
        yield f"- {name}: {shown}"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
