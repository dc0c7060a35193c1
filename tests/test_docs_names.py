"""What the documentation names exists, and the numbers that it prints are those of the code."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.limits import Limits
from isocenter.services.composition import monitoring as running
from isocenter.services.integration.hl7 import listener
from isocenter.services.integration.hl7 import message as segments
from isocenter.services.integration.hl7 import rejected_messages as rejected
from isocenter.services.monitoring.pages import MONITORING_LIMITS
from isocenter.services.net.http.protocol import MOST_HEADER_BYTES
from isocenter.services.security.access import rejected_callers as callers
from isocenter.services.security.access import user_identity as identity
from isocenter.services.security.access.failed_sign_ins import FailureRules
from isocenter.services.security.audit import aggregation as gathering
from isocenter.services.security.audit import syslog_delivery as delivery
from isocenter.services.security.audit import trail_writer
from isocenter.services.security.audit.message_builder import LONGEST_QUERY
from isocenter.services.security.certificates.expiry import WARN_WITHIN
from isocenter.services.security.certificates.issued import RENEW_WITHIN
from isocenter.services.service_classes.worklist import entry_files as files
from isocenter.services.service_classes.worklist import watched_folder as watching
from isocenter.services.settings import loading
from isocenter.services.settings.settings import SETTINGS
from isocenter.services.workflow.events import service as keeping
from isocenter.services.workflow.events.consumer import Consumer
from isocenter.services.workflow.events.event import Kind
from isocenter.services.workflow.jobs import runner as job_runner
from support.pages import PAGES, ROOT, code_in, fenced, name_of, text_of

BY_KEY = {setting.key: setting for setting in SETTINGS}
SECTIONS = {key.partition(".")[0] for key in BY_KEY}
KINDS = {kind.value for kind in Kind}
#: Words for numbers, as pages have them.
WORDS = {"a day": 86_400, "three days": 259_200, "7 days": 604_800, "an hour": 3_600}
UNITS = {"": 1, "s": 1, "MiB": 1 << 20, "KiB": 1 << 10, "bytes": 1}

pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pages
def test_settings_exist_with_the_default_that_stands_behind_them(page: Path) -> None:
    text = page.read_text("utf-8")
    for section, name, shown in re.findall(
        r"`([a-z_0-9]+)\.([a-z_]+)(?: = [^`]*)?`(?: \(([^)`;]*)[;)])?", text
    ):
        key = f"{section}.{name}"
        if section not in SECTIONS or key in KINDS or name in ("py", "jsonl"):
            continue
        if key not in BY_KEY:  # a field of the engine's own limits
            assert section == "limits", key
            assert name in {each.name for each in fields(Limits)}, key
            continue
        number = re.fullmatch(r"([\d,.]+)(?: (\w+))?", shown)
        value: float | None = WORDS.get(shown)
        if number is not None and (number[2] or "") in UNITS:
            value = float(number[1].replace(",", "")) * UNITS[number[2] or ""]
        assert value in (None, BY_KEY[key].default), f"{key} ({shown}): {BY_KEY[key].default}"


@pages
def test_configurations_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in fenced(page.read_text("utf-8"), "toml"):
        if block.startswith("[project"):
            continue  # a pyproject.toml
        file = tmp_path / "isocenter.toml"
        file.write_text(block, "utf-8")
        assert tomllib.loads(block)
        sources = loading._Sources()
        loading._from_file(sources, file, "")
        assert sources.given
        assert not sources.faults


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted(p for p in (ROOT / "packaging" / "container").rglob("*") if p.is_file())],
    ids=name_of,
)
def test_variables_exist(page: Path) -> None:
    known = {setting.variable for setting in SETTINGS}
    known |= {f"{setting.variable}_FILE" for setting in SETTINGS if setting.is_secret}
    named = set(re.findall(r"\bISOCENTER__[A-Z0-9_]+", page.read_text("utf-8")))
    assert named - {"ISOCENTER__SECTION__KEY"} <= known


@pages
def test_files_tests_and_modules_exist(page: Path) -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"certs"}
    for code in code_in(page.read_text("utf-8")):
        path, _, test = code.partition("::")
        if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?|[\w.-]+/", path) and path.split("/")[0] in rooms:
            # A word in capitals stands for any name.
            found = sorted(ROOT.glob(re.sub(r"\b[A-Z]+\b", "*", path.rstrip("/"))))
            assert found, path
            if test:
                tree = ast.parse(found[0].read_text("utf-8"))
                assert test in {getattr(node, "name", "") for node in ast.walk(tree)}, code
        elif re.fullmatch(r"isocenter\.(?:engine|services|storage)(\.\w+)*", code):
            resolve(code)


def resolve(name: str) -> None:
    """Import a dotted name: a module, or what is in one."""
    try:
        import_module(name)
    except ModuleNotFoundError:
        holder, _, last = name.rpartition(".")
        assert hasattr(import_module(holder), last), name


@pages
def test_python_on_the_pages_imports_what_there_is(page: Path) -> None:
    for block in fenced(page.read_text("utf-8"), "python"):
        for module, names, more in re.findall(
            r"(?m)^\s*from (isocenter[\w.]*) import (?:([\w, ]+)|\(([^)]*)\))", block
        ):
            for name in re.findall(r"\w+", names or more):
                resolve(f"{module}.{name}")


@pages
def test_environments_of_tox_exist(page: Path) -> None:
    text = text_of("tox.ini")
    known = set(re.findall(r"(?m)^\[testenv:([\w-]+)\]", text))
    known |= set(re.search(r"env_list = (.*)", text)[1].split(", "))  # type: ignore[index]
    assert set(re.findall(r"tox -e ([a-z-]+)", page.read_text("utf-8"))) <= known


# -- Numbers in sentences -----------------------------------------------------------------

UNIT = text_of("packaging/systemd/isocenter.service")
CONSUMER = {field.name: field.default for field in fields(Consumer)}
#: Page, what it says, and what that is in the code.
NUMBERS: tuple[tuple[str, str, object], ...] = (
    ("explanation/threat-model.md", "sixteen connections", MONITORING_LIMITS.connections == 16),
    ("explanation/threat-model.md", "ten seconds, 16 KiB", MONITORING_LIMITS.head_seconds == 10),
    ("explanation/threat-model.md", "16 KiB of headers, no", MOST_HEADER_BYTES == 16 << 10),
    ("how-to/monitor.md", "within five seconds", BY_KEY["monitoring.check_timeout"].default == 5),
    (
        "how-to/monitor.md",
        "at most five seconds old",
        BY_KEY["monitoring.cache_seconds"].default == 5,
    ),
    ("how-to/monitor.md", "at most five seconds late", running._LOOK_SECONDS == 5),
    ("reference/audit-messages.md", "after 1,000 instances", gathering.MOST_INSTANCES == 1_000),
    ("reference/audit-messages.md", "nothing came for 10 s", gathering.QUIET_SECONDS == 10),
    ("reference/audit-messages.md", "at least every 60 s", gathering.LONGEST_SECONDS == 60),
    ("reference/audit-messages.md", "one a minute", gathering.ALERT_SECONDS == 60),
    ("reference/audit-messages.md", "1,024 addresses", gathering.MOST_ADDRESSES == 1_024),
    ("reference/audit-messages.md", "up to 64 KiB", LONGEST_QUERY == 64 << 10),
    ("how-to/audit.md", "the last 0.2 s", trail_writer.LINGER_SECONDS == 0.2),
    ("how-to/audit.md", "up to 4,096 messages", trail_writer.MOST_WAITING == 4_096),
    ("how-to/audit.md", "every five minutes", trail_writer.AGAIN_AFTER_SECONDS == 300),
    ("how-to/audit.md", "for another 5 s", delivery.CONFIRM_SECONDS == 5),
    ("how-to/audit.md", "`rotate`, 64 MiB", BY_KEY["audit.rotate"].default == 64 << 20),
    ("reference/events.md", "of five seconds are told together", keeping._INCIDENTS_SECONDS == 5),
    ("reference/events.md", "at most twenty different ones", keeping._MOST_INCIDENTS == 20),
    ("reference/events.md", "those of a minute", keeping._FLOOD_SECONDS == 60),
    ("how-to/events.md", "`settle_seconds` (5)", BY_KEY["events.settle_seconds"].default == 5),
    ("how-to/events.md", "`quiet_seconds` (60)", BY_KEY["events.quiet_seconds"].default == 60),
    ("how-to/events.md", "`longest_retry` (900)", CONSUMER["longest_retry"] == 900),
    ("how-to/events.md", "seconds of one delivery (30)", CONSUMER["timeout"] == 30),
    ("how-to/events.md", "each of another study (4)", CONSUMER["concurrency"] == 4),
    ("how-to/rules.md", "takes it over within a minute", job_runner.CLAIM_SECONDS == 60),
    ("how-to/rules.md", "64 KiB", Limits().kept_value == 64 << 10),
    ("how-to/hl7.md", "500 messages and 64 MiB", rejected.MOST_MESSAGES == 500),
    ("how-to/hl7.md", "and 64 MiB at the most", rejected.MOST_BYTES == 64 << 20),
    ("how-to/hl7.md", "50,000 delimiters", segments.MOST_DELIMITERS == 50_000),
    ("how-to/hl7.md", "more than 1,024 bytes", listener._MOST_STRAY_BYTES == 1_024),
    ("how-to/hl7.md", "begins eleven messages", listener._MOST_UNFINISHED == 10),
    ("how-to/worklist.md", "16 MiB and 10,000 entries", files.MOST_BYTES == 16 << 20),
    ("how-to/worklist.md", "10,000 entries", files.MOST_ENTRIES == 10_000),
    ("how-to/worklist.md", "more than 10,000 files", watching.MOST_FILES == 10_000),
    ("how-to/access-control.md", "500 callers", callers.MOST_CALLERS == 500),
    ("how-to/access-control.md", "20 of one address", callers.MOST_OF_ADDRESS == 20),
    ("how-to/access-control.md", "Two verifications run", identity._MOST_AT_ONCE == 2),
    ("how-to/access-control.md", "32 may wait", identity._MOST_WAITING == 32),
    ("how-to/access-control.md", "ten failures", FailureRules().most == 10),
    ("how-to/access-control.md", "30 days before", WARN_WITHIN.days == 30),
    ("how-to/install-as-a-service.md", "within 60 days", RENEW_WITHIN.days == 60),
    ("how-to/install-as-a-service.md", "after six starts", "StartLimitBurst=6\n" in UNIT),
    ("how-to/install-as-a-service.md", "in ten minutes", "StartLimitIntervalSec=600\n" in UNIT),
    ("how-to/install-as-a-service.md", "after 30 s without", "WatchdogSec=30\n" in UNIT),
)


@pytest.mark.parametrize(("page", "said", "holds"), NUMBERS, ids=lambda value: str(value)[:40])
def test_a_number_in_a_sentence(page: str, said: str, holds: object) -> None:
    assert said in " ".join(text_of(f"docs/{page}").split()), "say the new number in this test, too"
    assert holds


def test_deadlines_of_the_library_are_those_of_the_server() -> None:
    for field in fields(Deadlines):
        assert field.default == BY_KEY[f"deadlines.{field.name}"].default, field.name


def test_the_readme_runs_what_tox_runs() -> None:
    names = re.search(r"env_list = (.*)", text_of("tox.ini"))
    assert names is not None
    assert names[1].split(", ") == ["py", "types", "lint", "docs", "fuzz", "bench-quick"]
    said = " ".join(text_of("README.md").split())
    words = "tests, types, style, documentation, and a brief run of fuzzing and benchmarks"
    assert words in said
