"""Settings that hold projects of de-identification: ``[[deidentification]]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path
from isocenter.services.dicom.deidentification.device_rules import (
    DeviceRuleError,
    parse_device_rules,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import PixelOptions, UnknownPolicy
from isocenter.services.dicom.deidentification.profile import (
    CustomRule,
    DocumentPolicy,
    PrivatePolicy,
    Profile,
    ProfileError,
    parse_option_names,
    profile_named,
)
from isocenter.services.dicom.deidentification.pseudonyms import (
    UUID_ROOT,
    PseudonymError,
    check_uid_root,
)
from isocenter.services.dicom.deidentification.rules import Action
from isocenter.services.dicom.deidentification.text_recognition import TextPolicy
from isocenter.services.net.addresses import is_network
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline

MAX_PROJECTS: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: Whatever no node is known by would never be met, and be sent the objects as they are: a URL, or
#: a host with a port.
_AE_OR_HOST: Final = re.compile(
    r"(?!.*://|[^:]*:[0-9]{1,5}$)[!-~]{1,16}|[A-Za-z0-9._-]{1,255}"
    r"|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]{0,40}"
)
#: What is done with an attribute: key of the table → action.
_ACTIONS: Final[Mapping[str, Action]] = {
    "keep": Action.KEEP, "remove": Action.REMOVE, "empty": Action.EMPTY, "clean": Action.CLEAN,
    "hash": Action.HASH, "encrypt": Action.ENCRYPT, "shift": Action.SHIFT_DATE,
}  # fmt: skip
_TEXTS: Final = ("name", "profile", "uid_root", "key_file", "pixel_rules", "private", "documents",
                 "video", "unknown", "text")  # fmt: skip
_LISTS: Final = ("options", "destinations", "roles", "addresses", *_ACTIONS)
_KEYS: Final = frozenset((*_TEXTS, *_LISTS, "replace", "weekdays", "date_offset"))


class DeidentificationFault(kinds.InvalidValueError):
    """A project that cannot be; the message says which, and why."""


def parse_project(table: object) -> Project:
    """One table of ``[[deidentification]]``.

    Raises:
        DeidentificationFault: it cannot be.
    """
    if not isinstance(table, dict):
        raise DeidentificationFault("each project is a table: [[deidentification]]")
    name = table.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise DeidentificationFault(
            "each project of [[deidentification]] needs a name of letters, digits, - and _"
        )
    unknown = sorted(table.keys() - _KEYS)
    if unknown:
        raise DeidentificationFault(
            f"deidentification {name!r}: there is no {unknown[0]!r}; there are "
            f"{', '.join(sorted(_KEYS))}"
        )
    try:
        return _project(name, table)
    except (ProfileError, PseudonymError, DeviceRuleError, KeySyntaxError, ValueError) as error:
        raise DeidentificationFault(f"deidentification {name!r}: {error}") from None


def _project(name: str, table: Mapping[str, Any]) -> Project:
    for key in _TEXTS:
        if key in table and not isinstance(table[key], str):
            raise ValueError(f"{key} is a text")
    for key in _LISTS:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{key} is a list of texts")
    weekdays, days = table.get("weekdays", False), table.get("date_offset")
    if not isinstance(weekdays, bool):
        raise ValueError("weekdays is true or false")
    if days is not None and (isinstance(days, bool) or not isinstance(days, int)):
        raise ValueError("date_offset is a number of days")
    if days == 0:
        raise ValueError("date_offset 0 moves nothing; the option full retains dates")
    for title in table.get("destinations", []):
        if _AE_OR_HOST.fullmatch(title) is None:
            raise ValueError(
                "destinations are AE titles, or hosts of DICOMweb nodes, without port and path"
            )
    for network in table.get("addresses", []):
        if not is_network(network):
            raise ValueError("addresses are addresses or networks (10.1.0.0/16)")
    return Project(
        name=name,
        profile=_profile(name, table, moves_dates=weekdays or days is not None),
        pixels=_pixels(table),
        destinations=tuple(table.get("destinations", [])),
        roles=tuple(table.get("roles", [])),
        addresses=tuple(table.get("addresses", [])),
        key_file=Path(table["key_file"]) if "key_file" in table else None,
        weekdays=weekdays,
        days=days,
        base=table.get("profile", "basic"),
        pixel_rules=table.get("pixel_rules", ""),
        uid_root=check_uid_root(table.get("uid_root", UUID_ROOT)),
    )


def _profile(name: str, table: Mapping[str, Any], *, moves_dates: bool) -> Profile:
    profile = profile_named(table.get("profile", "basic"))
    options = profile.options | parse_option_names(table.get("options", []))
    if moves_dates:
        options |= {Option.MODIFIED_DATES}
    private = profile.private
    if "private" in table:
        private = PrivatePolicy(_one_of("private", table["private"], PrivatePolicy))
    elif Option.PRIVATE in options:
        private = PrivatePolicy.SAFE
    if private is PrivatePolicy.SAFE:
        options |= {Option.PRIVATE}
    rules = {
        _tag(text): CustomRule(action)
        for key, action in _ACTIONS.items()
        for text in table.get(key, [])
    }
    replaced = table.get("replace", {})
    if not isinstance(replaced, dict) or not all(isinstance(one, str) for one in replaced.values()):
        raise ValueError('replace is a table: { PatientComments = "phantom" }')
    rules |= {_tag(key): CustomRule(Action.REPLACE, value) for key, value in replaced.items()}
    made = replace(
        profile,
        name=name,
        options=options,
        private=private,
        custom={**profile.custom, **rules},
        documents=DocumentPolicy(_one_of("documents", table.get("documents", "refuse"),
                                         DocumentPolicy)),
        video=DocumentPolicy(_one_of("video", table.get("video", "refuse"), DocumentPolicy)),
    )  # fmt: skip
    made.check()
    return made


def _pixels(table: Mapping[str, Any]) -> PixelOptions:
    return PixelOptions(
        rules=parse_device_rules(table.get("pixel_rules", "")),
        unknown=UnknownPolicy(
            _one_of("unknown", table.get("unknown", "quarantine"), UnknownPolicy)
        ),
        text=TextPolicy(_one_of("text", table.get("text", "off"), TextPolicy)),
    )


def _one_of(key: str, value: str, policies: Any) -> str:
    known = [policy.value for policy in policies]
    if value not in known:
        raise ValueError(f"{key} is one of {', '.join(known)}")
    return value


def _tag(text: str) -> int:
    sequences, tag = parse_attribute_path(text)
    if sequences:
        raise ValueError(f"{text[:64]!r}: give a tag or a keyword; it counts wherever it is")
    return tag


@dataclass(frozen=True, slots=True)
class ProjectKind:
    """One table of ``[[deidentification]]``."""

    allowed: str = (
        "a table [[deidentification]] with a name, and what of profile, options, destinations, "
        "roles, addresses, private, documents, video, weekdays, date_offset, uid_root, key_file, "
        f"pixel_rules, unknown, text, replace, {', '.join(_ACTIONS)} is wanted"
    )

    def from_toml(self, value: object) -> Project:
        """A table."""
        return parse_project(value)

    def from_text(self, text: str) -> Project:
        """An inline table of TOML."""
        return parse_project(inline(text, DeidentificationFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Project)
        profile = value.profile
        pairs = [f"name = {kinds.toml_string(value.name)}"]
        for key, texts in (
            ("options", sorted(option.value for option in profile.options)),
            ("destinations", value.destinations),
            ("roles", value.roles),
            ("addresses", value.addresses),
        ):
            if texts:
                pairs.append(f"{key} = [{', '.join(map(kinds.toml_string, texts))}]")
        for key, action in _ACTIONS.items():
            tags = [tag for tag, rule in profile.custom.items() if rule.action is action]
            if tags:
                pairs.append(f"{key} = [{', '.join(_quoted(tag) for tag in sorted(tags))}]")
        replaced = {
            tag: rule.value for tag, rule in profile.custom.items() if rule.action is Action.REPLACE
        }
        if replaced:
            inner = ", ".join(
                f"{_quoted(tag)} = {kinds.toml_string(text)}" for tag, text in replaced.items()
            )
            pairs.append(f"replace = {{ {inner} }}")
        texts_of = {
            "profile": value.base, "pixel_rules": value.pixel_rules,
            "private": profile.private.value, "documents": profile.documents.value,
            "video": profile.video.value, "unknown": value.pixels.unknown.value,
            "text": value.pixels.text.value, "uid_root": value.uid_root,
            "key_file": "" if value.key_file is None else str(value.key_file),
        }  # fmt: skip
        pairs += [f"{key} = {kinds.toml_string(text)}" for key, text in texts_of.items() if text]
        if value.weekdays:
            pairs.append("weekdays = true")
        if value.days is not None:
            pairs.append(f"date_offset = {value.days}")
        return f"{{ {', '.join(pairs)} }}"


def _quoted(tag: int) -> str:
    return kinds.toml_string(f"{tag >> 16:04X},{tag & 0xFFFF:04X}")


@dataclass(frozen=True, slots=True)
class _Projects(ArrayOfTables[Project]):
    def from_toml(self, value: object) -> tuple[Project, ...]:
        projects = ArrayOfTables.from_toml(self, value)
        titles = [title.casefold() for project in projects for title in project.destinations]
        roles = [role for project in projects for role in project.roles]
        for what, names in (("destination", titles), ("role", roles)):
            if len(set(names)) < len(names):
                raise self.fault(f"a {what} belongs to one project of de-identification only")
        return projects


PROJECTS: Final = _Projects(
    ProjectKind(), "projects of de-identification", MAX_PROJECTS, DeidentificationFault
)
