"""Rules as values: what a configuration may say, which objects are meant, what is decided."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.archive.coercion.coercer import MapValue, RemoveAttribute, SetValue
from isocenter.services.archive.orders import CompressionOrder, ForwardPriority, Route
from isocenter.services.archive.rules.conditions import Condition, Sender
from isocenter.services.archive.rules.evaluation import Decision, Rules
from isocenter.services.archive.sent_form import form_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.rules import (
    KEYS,
    RULES,
    RuleFault,
    RuleKind,
    parse_rule,
    table_of,
)
from isocenter.services.settings.toml_text import show

MODALITY, PATIENT_ID, INSTITUTION, ACCESSION = 0x00080060, 0x00100020, 0x00080080, 0x00080050
CT1 = Sender(calling_ae_title="CT1", called_ae_title="ISOCENTER")


def rule(name: str = "r", **table: Any) -> Any:
    return parse_rule({"name": name, **table})


def decide(*rules: Any, sender: Sender = CT1, **texts: str) -> Decision:
    attributes = {"modality": MODALITY, "patient_id": PATIENT_ID, "institution": INSTITUTION}
    return Rules(rules).evaluate(sender, {attributes[name]: text for name, text in texts.items()})


@pytest.mark.parametrize(
    ("patterns", "text", "fits"),
    [
        ("CT", "CT", True),
        ("ct", "CT", True),
        ("C", "CT", False),
        ("C?", "CT", True),
        ("C*", "C", True),
        ("*", "", True),
        ("?*", "", False),
        ("", "", True),
        (["MR", "CT"], "CT", True),
        (["MR", "US"], "CT", False),
        ("!CT", "CT", False),
        ("!CT", "MR", True),
        ("!CT", "", True),
        (["!CT", "!MR"], "US", True),
        (["!CT", "!MR"], "MR", False),
        (["C*", "!CT"], "CR", True),
        (["C*", "!CT"], "CT", False),
        ("B", "A\\B", True),
        ("!B", "A\\B", False),
        ("A*B", "A\\B", False),
    ],
)
def test_patterns(patterns: Any, text: str, fits: bool) -> None:
    found = decide(rule(when={"modality": patterns}), modality=text)
    assert found.rules == (("r",) if fits else ())


@given(st.text(alphabet="aB*?!\\"), st.text(alphabet="aB\\"))
def test_a_denied_pattern_means_the_contrary(pattern: str, text: str) -> None:
    condition = Condition(field="x", place=1, patterns=(pattern.lstrip("!"),))
    denied = Condition(field="x", place=1, patterns=("!" + pattern.lstrip("!"),))
    assert condition.holds(CT1, {1: text}) is not denied.holds(CT1, {1: text})


def test_case_counts_where_the_rule_says_so() -> None:
    assert not decide(rule(when={"modality": "ct"}, case_sensitive=True), modality="CT").rules
    assert decide(rule(when={"modality": "CT"}, case_sensitive=True), modality="CT").rules


def test_all_conditions_have_to_hold_and_none_means_everything() -> None:
    both = rule(when={"modality": "CT", "calling_ae": "CT*", "called_ae": "iso*"})
    assert decide(both, modality="CT").rules
    assert not decide(both, modality="MR").rules
    assert not decide(both, modality="CT", sender=Sender(calling_ae_title="US1")).rules
    assert decide(rule()).rules == ("r",)


def test_the_order_is_priority_then_the_configuration_and_stop_ends_it() -> None:
    rules = [
        rule("a"),
        rule("b", priority=5),
        rule("c", priority=5, stop=True, when={"modality": "CT"}),
        rule("d", enabled=False, priority=9),
    ]
    assert decide(*rules, modality="CT").rules == ("b", "c")
    assert decide(*rules, modality="MR").rules == ("b", "a")


def test_each_destination_once_and_never_back_to_the_sender() -> None:
    decision = decide(
        rule("slow", forward=["PACS", "CT1"], delay_minutes=5, forward_priority="low"),
        rule("first", forward=["PACS", "XA"], priority=1, commit=True, area="heart"),
        rule("area", area="other"),
    )
    assert decision.routes == (
        Route(destination="PACS", rule="first", commit=True),
        Route(destination="XA", rule="first", commit=True),
    )
    assert decision.area == "heart"
    alone = decide(rule("slow", forward="PACS", delay_minutes=5, forward_priority="low"))
    assert alone.routes == (
        Route(destination="PACS", rule="slow", delay=300.0, priority=ForwardPriority.LOW),
    )


def test_of_each_attribute_the_edits_of_the_first_rule_count() -> None:
    decision = decide(
        rule("b", coerce=[{"set": "InstitutionName", "value": "B"}, {"remove": "0010,4000"}]),
        rule(
            "a",
            priority=1,
            coerce=[
                {"set": "0008,0080", "value": "A"},
                {"map": "AccessionNumber", "table": {"1": "2"}, "default": ""},
            ],
        ),
    )
    assert decision.edits == (
        SetValue(INSTITUTION, "A"),
        MapValue(ACCESSION, {"1": "2"}, ""),
        RemoveAttribute(0x00104000),
    )


def test_what_the_command_says_tells_whether_an_object_could_be_changed() -> None:
    edits = [{"remove": "0010,4000"}]
    ct = "1.2.840.10008.5.1.4.1.1.2"
    rules = Rules([rule(coerce=edits, when={"sop_class_uid": ct, "modality": "X"}), rule("x")])
    assert rules.has_edits
    assert rules.may_coerce(CT1, ct)
    assert not rules.may_coerce(CT1, "1.2.3")
    assert not Rules([rule(coerce=edits, when={"calling_ae": "MR"})]).may_coerce(CT1, ct)
    assert not Rules([rule(coerce=edits, enabled=False)]).may_coerce(CT1, ct)
    assert not Rules([rule()]).has_edits


def test_how_an_object_is_kept_the_first_rule_says_that_says_it() -> None:
    rules = [rule("a"), rule("b", compress="rle"), rule("c", compress="jpeg-ls")]
    found = decide(*rules)
    assert found.compression == CompressionOrder(
        transfer_syntax_uid="1.2.840.10008.1.2.5", rule="b", when_complete=True
    )
    assert decide(rules[0]).compression is None


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("a", "is a table"),
        ({}, "needs a name"),
        ({"name": ""}, "needs a name"),
        ({"name": "x" * 65}, "needs a name"),
        ({"forwards": []}, "there is no 'forwards'"),
        ({"enabled": 1}, "enabled must be true or false"),
        ({"priority": "high"}, "priority must be a whole number"),
        ({"when": ["CT"]}, "when must be a table"),
        ({"when": {"modality": 1}}, "must be a pattern"),
        ({"when": {"modality": []}}, "1 to 100 patterns"),
        ({"when": {"modalty": "CT"}}, "'modalty' is no keyword"),
        ({"when": {"PixelData": "x"}}, "a OB is not looked at"),
        ({"when": {"RequestAttributesSequence": "x"}}, "a SQ is not looked at"),
        ({"when": {"5200,9229[0].0008,0060": "x"}}, "functional groups"),
        ({"forward": ["A\\B"]}, "AE titles"),
        ({"forward": "A", "forward_priority": "now"}, "low, normal, high, urgent"),
        ({"forward": "A", "delay_minutes": -1}, "delay_minutes must be"),
        ({"forward": "A", "delete_after": True}, "delete_after needs commit"),
        ({"commit": True}, "commit is about sending"),
        ({"deidentify": "trial"}, "deidentify is about sending"),
        ({"forward": "A", "deidentify": 1}, "deidentify must be the name"),
        ({"forward": "A", "deidentify": "t", "commit": True}, "is another object"),
        ({"area": "../x"}, "area must be"),
        ({"area": "/x"}, "area must be"),
        ({"area": "a//b"}, "area must be"),
        ({"area": "x" * 23}, "area must be"),
        ({"coerce": {"set": "1"}}, "coerce must be a list"),
        ({"coerce": [{"set": "InstitutionName"}]}, "coerce 1: must be"),
        ({"coerce": [{"remove": "0008,0080", "value": ""}]}, "coerce 1: must be"),
        ({"coerce": [{"map": "0008,0080", "table": {"a": 1}}]}, "coerce 1: must be"),
        ({"coerce": [{"remove": "SOPInstanceUID"}]}, "may not be changed"),
        ({"coerce": [{"remove": "StudyInstanceUID"}]}, "may not be changed"),
        ({"coerce": [{"set": "0008,0005", "value": ""}]}, "may not be changed"),
        ({"coerce": [{"remove": "PixelData"}]}, "(7FE0,0010)"),
        ({"coerce": [{"remove": "0002,0010"}]}, "may not be changed"),
        ({"coerce": [{"remove": "0040,0275[0].0040,1001"}]}, "items of sequences"),
        ({"coerce": [{"set": "Rows", "value": "many"}]}, "(0028,0010)"),
        ({"compress": "jpeg"}, "compress must be rle, jpeg-lossless, jpeg-ls, "),
        ({"compress": "jpeg-baseline"}, "jpeg-baseline loses something"),
        ({"compress": "explicit"}, "or compresses nothing"),
        ({"compress": ["jpeg-ls"]}, "compress must be"),
        ({"compress_when": "arrival"}, "compress_when is about compressing"),
        ({"compress": "rle", "compress_when": "later"}, "compress_when must be arrival or"),
        ({"stop": True, "when": {"5400,0100[0].003A,0005": "1"}}, "up to (0400,0561)"),
        (
            {"coerce": [{"remove": "0010,4000"}], "when": {"0040,0275[0].0040,1001": "1"}},
            "up to (0400,0561)",
        ),
    ],
)
def test_what_cannot_be_says_why(table: Any, fault: str) -> None:
    with pytest.raises(RuleFault) as raised:
        parse_rule(table if not isinstance(table, dict) or not table else {"name": "r"} | table)
    assert fault in str(raised.value)


CONFIGURATION = """
[[peers]]
ae_title = "PACS"
host = "127.0.0.1"
port = 104

[[rules]]
name = "ct"
priority = 3
when = { modality = ["CT", "!x"], "0040,0275[0].0040,1001" = "RP*" }
forward = ["PACS"]
delay_minutes = 2
commit = true
delete_after = true
area = "ct/new"
compress = "jpeg-ls"
compress_when = "arrival"
sign = true

[signatures]
sign_key = "sign.key"
sign_certificate = "sign.pem"

[[rules]]
name = 'a "quoted" name'
enabled = false
when = { "0009,1001" = "ü*" }
case_sensitive = true
coerce = [
    { set = "InstitutionName", value = 'N"ord' },
    { map = "StationName", table = { "a b" = "C" } },
    { map = "0008,0050", table = { a = "b" }, default = "" },
    { remove = "0010,4000" },
]
stop = true
"""


def test_one_order_says_how_an_object_is_kept() -> None:
    smaller, signed = (
        parse_rule({"name": "small", "compress": "rle"}),
        parse_rule({"name": "sign", "sign": True}),
    )
    assert decide().kept_form is None
    assert decide(signed).kept_form == CompressionOrder(
        rule="sign", when_complete=False, signs=True
    )
    both = decide(smaller, signed)
    assert both.signed_by == "sign"
    assert both.kept_form == CompressionOrder(
        transfer_syntax_uid="1.2.840.10008.1.2.5", rule="small", signs=True
    )


def test_a_configuration_is_read_and_shown_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "isocenter.toml"
    path.write_text(CONFIGURATION)
    settings = load_settings(path, environ={})
    first, second = settings.rules
    assert [c.place for c in first.conditions] == [MODALITY, (((0x00400275, 0),), 0x00401001)]
    assert first.routes[0].delay == 120.0
    assert first.compression == CompressionOrder(
        transfer_syntax_uid="1.2.840.10008.1.2.4.80", rule="ct", when_complete=False
    )
    assert first.signs
    assert not second.enabled
    assert len(second.edits) == 4
    path.write_text(show(settings))
    assert load_settings(path, environ={}).rules == settings.rules
    text = f"[{RuleKind().to_toml(first)}, {RuleKind().to_toml(second)}]"
    assert load_settings(path, environ={"ISOCENTER__RULES": text}).rules == settings.rules
    assert tomllib.loads(f"x = {text}")["x"][0]["name"] == "ct"


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ('[[rules]]\nname = "x"\nforward = ["NOBODY"]', "NOBODY is none of the peers"),
        ('[[rules]]\nname = "x"\nsign = true', "sign needs signatures.sign_key"),
        ('[[rules]]\nname = "x"\n[[rules]]\nname = "x"', "two rules have the name 'x'"),
        ("rules = 3", "must be a list"),
        (
            '[[rules]]\nname = "x"\ncompress = "rle"\n[events]\nenabled = false',
            "add compress_when",
        ),
        ('[[rules]]\nname = "x"\narea = ".."', "rule 'x': area must be"),
        *(
            (
                (
                    'peers = ["A@10.7.0.1:104"]\n[[rules]]\nname = "x"\nforward = ["A"]\n'
                    "commit = true\ndelete_after = true\n"
                    f'[[deidentification]]\nname = "trial"\n{said}'
                ),
                "A is given what the project trial de-identifies",
            )
            for said in ('destinations = ["a"]', 'addresses = ["10.7.0.0/16"]')
        ),
    ],
)
def test_settings_name_the_rule_and_the_fault(tmp_path: Path, rules: str, fault: str) -> None:
    path = tmp_path / "isocenter.toml"
    path.write_text(rules)
    with pytest.raises(SettingsError) as raised:
        load_settings(path, environ={})
    assert fault in str(raised.value)
    assert str(path) in str(raised.value)


def test_there_may_be_a_hundred_rules() -> None:
    RULES.from_toml([{"name": str(number)} for number in range(100)])
    with pytest.raises(RuleFault, match="these are 101"):
        RULES.from_toml([{"name": str(number)} for number in range(101)])
    with pytest.raises(RuleFault, match="not TOML"):
        RULES.from_text("[{")


_ODD = (
    None, True, -1, 1.5, float("nan"), 10**30, "", "x", "\x00", "a" * 5_000, [], [[]], [1], ["x"],
    [{}], [{"set": 1}], {}, {"a": []}, {"modality": [[]]}, {1: 2}, date(2026, 1, 1),
)  # fmt: skip


@pytest.mark.parametrize("key", sorted(KEYS))
def test_whatever_stands_in_a_rule_it_is_one_or_says_what_is_wrong(key: str) -> None:
    for value in _ODD:
        for more in ({}, {"forward": ["A"]}):
            try:
                found = parse_rule({"name": "r", **more, key: value})
            except RuleFault:
                continue
            assert parse_rule(table_of(found)) == found


def test_a_rule_names_a_project_that_is_there() -> None:
    rules = '[{ name = "a", forward = "PACS", deidentify = "trial" }]'
    options: dict[str, object] = {"rules": rules, "peers": ["PACS@h:1"]}
    with pytest.raises(SettingsError, match="trial is no project of de-identification"):
        load_settings(environ={}, overrides=options)
    settings = load_settings(
        environ={}, overrides={**options, "deidentification": '[{ name = "trial" }]'}
    )
    (rule,) = settings.rules
    assert [route.form.project for route in rule.routes] == ["trial"]
    assert parse_rule(table_of(rule)) == rule


def test_a_rule_says_what_its_destinations_are_given() -> None:
    table = {
        "name": "a",
        "forward": ["PACS", "WS"],
        "forward_coerce": [
            {"set": "InstitutionName", "value": "Nord"},
            {"map": "StationName", "table": {"A": "B"}, "default": "C"},
            {"remove": "0010,4000"},
        ],
        "forward_syntax": "jpeg-ls",
        "commit": True,
    }
    rule = parse_rule(table)
    assert not rule.edits
    form = rule.routes[0].form
    assert rule.routes[1].form == form
    assert form.transfer_syntax_uid == "1.2.840.10008.1.2.4.80"
    assert form_of(form.project, form.as_text()) == form
    assert parse_rule(table_of(rule)) == rule
    # Another version has queued it.
    for text in ('{"coerce": [], "transfer_syntax": "", "more": 1}', "{", '{"coerce": [1]}'):
        assert "cannot make" in form_of("x", text).fault


def test_a_rule_says_when_what_it_matched_is_past_its_time() -> None:
    sent = rule("a", forward=["PACS"], delete_after_days=30)
    kept = rule("b", delete_after_days=7)
    both = rule("c", forward=["PACS"], delete_after_days=9, delete_since="arrived")
    assert [one.retention.forwarded_days for one in (sent, kept, both)] == [30, 0, 0]
    # Somebody may have it asked whether a destination keeps what is to go by that.
    assert [Rules([one]).ask_for_commitment for one in (sent, kept, both)] == [True, False, False]
    assert [one.retention.arrived_days for one in (sent, kept, both)] == [0, 7, 9]
    for one in (sent, kept, both):
        assert parse_rule(table_of(one)) == one
        assert one.retention.routed_by == one.name
        assert not one.retention.although_promised
    # Nobody else would have it as it is.
    for change in ({"deidentify": "p"}, {"forward_coerce": [{"remove": "0010,1040"}]}):
        other = rule("e", forward=["PACS"], priority=1, **change)
        assert decide(other, sent).expires_by == ""
        assert decide(other, both).expires_by == "c"
        assert decide(rule("e", forward=["X"], **change), sent).expires_by == "a"
    # Whom it came from need not have it any more; others are sent it.
    to_sender = rule("e", forward=[CT1.calling_ae_title], delete_after_days=30)
    assert decide(to_sender).came_from == (CT1.calling_ae_title,)
    assert decide(to_sender).expires_by == ""
    assert decide(to_sender, rule("f", forward=["PACS"])).expires_by == "e"
    # Whatever else of a rule changes, its conditions are those that it had.
    when = {"modality": ["CT", "MR"], "patient_id": "X*"}
    under = rule("a", when=when, delete_after_days=1).retention.conditions
    again = rule("b", when=dict(reversed(when.items())), delete_after_days=2, forward=["PACS"])
    assert again.retention.conditions == under != ""
    assert decide(again, modality="MR", patient_id="X1").expires_under == under
    other = rule("a", when=when | {"modality": "CT"}, delete_after_days=1)
    sensitive = rule("a", when=when, case_sensitive=True, delete_after_days=1)
    assert len({one.retention.conditions for one in (again, other, sensitive, sent)}) == 4
    # The first that says so decides, and those that are off say nothing.
    assert decide(kept, sent).expires_by == "b"
    off = rule("d", delete_after_days=1, enabled=False)
    assert Rules([off, sent, kept]).retention == (sent.retention, kept.retention)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"delete_after_days": -1}, "delete_after_days is a whole number"),
        ({"delete_after_days": True}, "delete_after_days is a whole number"),
        ({"delete_after_days": 40_000}, "from 1 to 36500"),
        ({"delete_after_days": 3, "delete_since": "ever"}, "must be arrived or forwarded"),
        ({"delete_after_days": 3, "delete_since": "forwarded"}, "is about sending"),
        ({"delete_since": "arrived"}, "is about deleting"),
        (
            {"forward": ["A"], "delete_after_days": 3, "deidentify": "p"},
            "with deidentify would leave nobody with the object as it is",
        ),
        (
            {
                "forward": ["A"],
                "delete_after_days": 3,
                "forward_coerce": [{"remove": "0010,1040"}],
            },
            "with forward_coerce would leave nobody",
        ),
        ({"forward_coerce": [{"remove": "PatientName"}]}, "forward_coerce is about sending"),
        ({"forward_syntax": "jpeg-ls"}, "forward_syntax is about sending"),
        ({"forward": ["A"], "forward_syntax": "jpeg-baseline"}, "loses something"),
        ({"forward": ["A"], "forward_syntax": ["jpeg-ls"]}, "forward_syntax must be"),
        ({"forward": ["A"], "forward_coerce": [{"set": "0020,000D", "value": "1"}]}, "may not be"),
        ({"forward": ["A"], "forward_coerce": {"remove": "PatientName"}}, "must be a list"),
        (
            {
                "forward": ["A"],
                "commit": True,
                "delete_after": True,
                "forward_coerce": [{"remove": "PatientName"}],
            },
            "leave nobody with the object",
        ),
    ],
)
def test_what_destinations_cannot_be_given(table: dict[str, Any], fault: str) -> None:
    with pytest.raises(RuleFault, match=fault):
        parse_rule({"name": "r", **table})
