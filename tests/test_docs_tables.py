"""Tables of the documentation have a row for each thing that there is, and for nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.rules.conditions import CALLED_AE, CALLING_AE
from isocenter.services.archive.rules.conditions import FIELDS as RULE_FIELDS
from isocenter.services.cli.commands import COMMANDS
from isocenter.services.composition.reloading import RELOADED
from isocenter.services.monitoring.metric_table import METRICS
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.net.tls.contexts import PROFILES
from isocenter.services.security.access.permissions import (
    NEEDS,
    NOT_PERFORMED,
    ROLES,
    operations,
    parse_permission,
    permission_texts,
    union,
)
from isocenter.services.security.audit.codes import EventId
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    CODES,
    DATE_TIME,
    FIELDS,
    STEP_STATUS,
)
from isocenter.services.settings.sections.monitoring import AuditSettings
from isocenter.services.workflow.events.consumer import Consumer, Webhook
from isocenter.services.workflow.events.event import Event, Kind
from support.pages import PAGES, ROOT, name_of, prose, rows_of, text_of


def names_in(cell: str) -> set[str]:
    """What stands between back quotes."""
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_metric_has_its_row_with_its_labels() -> None:
    families = {
        family.name.removeprefix("isocenter_"): family
        for family in Metrics(version="1").registry.collect()
        if family.name.startswith("isocenter_")
    }
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    page = text_of("docs/reference/metrics.md")
    named: set[str] = set()
    for names, shown, _ in rows_of(page, "| name | labels |"):
        stems = [name.removesuffix("_total") for name in re.findall(r"`(\w+)`", names)]
        for name, stem in zip(re.findall(r"`(\w+)`", names), stems, strict=True):
            assert stem in families, name
            assert name.endswith("_total") == (families[stem].type == "counter"), name
        named |= set(stems)
        union = set().union(*(labels[stem] for stem in stems))
        assert union == set(re.findall(r"`(\w+)`", shown)), names
    assert named == families.keys() - {"build_info"}
    for page_path in PAGES:
        for name in re.findall(r"isocenter_([a-z_]+)", page_path.read_text("utf-8")):
            if name.startswith("plugin_"):
                continue
            stem = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert stem in families or stem == "session", f"{name_of(page_path)}: {name}"


def test_every_command_is_on_the_page_of_commands() -> None:
    lines = text_of("docs/reference/commands.md").splitlines()
    rows = [line.split("|")[1] for line in lines if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(command.name for command in COMMANDS)


def test_every_event_has_its_row_with_its_fields() -> None:
    classes = {each.kind.value: {field.name for field in fields(each)} for each in get_args(Event)}
    rows = rows_of(text_of("docs/reference/events.md"), "| kind | when |")
    assert set().union(*(names_in(row[0]) for row in rows)) == {kind.value for kind in Kind}
    known: set[str] = set().union(*classes.values())
    for kinds, _, shown in rows:
        told = {name for name in re.findall(r"`(\w+)`", shown) if name in known}
        if "the same" not in shown and "as `" not in shown:
            for kind in re.findall(r"`([^`]+)`", kinds):
                # `instances` is asked for, and done is `committed` and `failed`.
                assert classes[kind] <= told, kind


def test_every_audit_message_has_its_row_with_its_switch() -> None:
    rows = rows_of(text_of("docs/reference/audit-messages.md"), "| event | when |")
    assert {row[0].partition(",")[0] for row in rows} == {each.value.meaning for each in EventId}
    switches = {switch for row in rows for switch in re.findall(r"`(\w+)`", row[2])}
    assert switches <= {field.name for field in fields(AuditSettings)}


def test_the_roles_may_what_the_page_says() -> None:
    page = text_of("docs/how-to/access-control.md")
    said = {}
    for names, may in rows_of(page, "| role | may ask for |"):
        everything = set(NEEDS) - NOT_PERFORMED - {"C-ECHO"}
        without = re.fullmatch(r"everything(?: but (.*))?", may)
        told = everything - {without[1]} if without else set(may.split(", "))
        said |= dict.fromkeys(re.findall(r"`(\w+)`", names), told)
    assert said == {name: set(operations(role)) - {"C-ECHO"} for name, role in ROLES.items()}


def test_every_fuzz_target_has_its_rows() -> None:
    targets = {path.stem for path in (ROOT / "fuzz" / "corpus").iterdir()}
    page = text_of("docs/how-to/fuzz.md")
    assert {row[0].strip("`") for row in rows_of(page, "| target | invariant |")} == targets
    counts = {
        row[0].strip("`"): int(row[1].replace(",", ""))
        for row in rows_of(page, "| target | inputs |")
    }
    together = counts.pop("together")
    assert counts.keys() == targets
    assert sum(counts.values()) == together


def test_the_causes_of_a_deletion_are_named() -> None:
    rows = rows_of(text_of("docs/reference/events.md"), "| kind | when |")
    (told,) = [row[2] for row in rows if row[0] == "`instances.deleted`"]
    assert {cause.value for cause in DeletionCause} <= names_in(told)


def test_every_key_of_a_consumer_has_its_row() -> None:
    page = text_of("docs/how-to/events.md")
    rows = rows_of(page, "| key of a consumer |")
    told = set().union(*(names_in(row[0]) for row in rows))
    own = {field.name for field in fields(Consumer)} - {"target"}
    assert told == own
    assert {field.name for field in fields(Webhook)} - {"url"} <= names_in(prose(page))


def test_every_operation_says_what_it_needs() -> None:
    page = text_of("docs/how-to/access-control.md")
    said = {
        operation: parse_permission(text.strip("`"))
        for row, text in rows_of(page, "| operation | needs |")
        for operation in row.split(", ")
    }
    needed = {
        operation: union({resource: action} for resource, action in needs)
        for operation, needs in NEEDS.items()
        if needs and operation not in NOT_PERFORMED
    }
    assert {name: permission_texts(needs) for name, needs in said.items()} == {
        name: permission_texts(needs) for name, needs in needed.items()
    }


def test_every_field_of_the_worklist_has_its_row() -> None:
    paths = FIELDS | CODES
    told: set[str] = set()
    for names, attribute, _ in rows_of(
        text_of("docs/reference/worklist-fields.md"), "| field | attribute |"
    ):
        tags = re.findall(r"\([0-9A-F]{4},[0-9A-F]{4}\)", attribute)
        listed = re.findall(r"`(\w+)`", names)
        told |= set(listed)
        if tags and set(listed) <= paths.keys():
            assert [paths[name][-11:] for name in listed] == tags, names
    assert told == paths.keys() | {DATE_TIME, STEP_STATUS, ATTRIBUTES}


def test_every_field_of_a_rule_is_named() -> None:
    (line,) = re.findall(r"(?ms)^- \*\*Fields\*\*: (.*?);", text_of("docs/how-to/rules.md"))
    assert names_in(line) == RULE_FIELDS.keys() | {CALLING_AE, CALLED_AE}


def test_what_a_reload_exchanges_is_named() -> None:
    rows = rows_of(text_of("docs/how-to/access-control.md"), "| what | when it holds |")
    (what,) = [row[0] for row in rows if "reload" in row[1]]
    for name in {key.partition(".")[0] for key in RELOADED}:
        assert re.search(rf"`\[{name}\]`|\b{name}\b", what), name


def test_every_tls_profile_has_its_row() -> None:
    rows = rows_of(text_of("docs/how-to/tls-profiles.md"), "| name | clause |")
    assert {re.match(r"`([\w-]+)`", row[0])[1] for row in rows} == PROFILES.keys()  # type: ignore[index]
    for name, clause, versions, _ in rows:
        profile = PROFILES[names_in(name).pop()]
        assert clause.partition(",")[0] in profile.clause, name
        assert ("retired" in clause) == profile.is_retired, name
        assert versions.startswith("1.2" if profile.minimum.name == "TLSv1_2" else "1.3"), name
