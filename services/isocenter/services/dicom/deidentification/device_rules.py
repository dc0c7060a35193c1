"""Rules of devices: how to tell them, and where they burn in names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import tag_for_keyword
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.regions import Region
from isocenter.services.dicom.deidentification.rules import table_lines
from isocenter.services.dicom.element_values import NUMBER_VRS, decode_numbers, decode_text

_CONDITION: Final = re.compile(r"(\w+)([~=])(.+)")
_REGION: Final = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})")
_CODE_MEANING: Final = "CodeMeaning"
_IMPLEMENTATION: Final = "ImplementationVersionName"
_OVERLAY_DESCRIPTION: Final = "OverlayDescription"
#: Of the header of the file, and of groups that repeat.
_BESIDE: Final = (_IMPLEMENTATION, _OVERLAY_DESCRIPTION)
_LONGEST: Final = 1024


class DeviceRuleError(IsocenterError, ValueError):
    """A rule that cannot be read."""

    error_code = ErrorCode.DEIDENTIFICATION


@dataclass(frozen=True, slots=True)
class Condition:
    """What one attribute has to say: one of some texts, as a part of it or as a whole."""

    keyword: str
    is_part: bool
    texts: tuple[str, ...]

    def holds(self, values: Mapping[str, str]) -> bool:
        """Whether it holds; texts are compared without regard to case."""
        value = values.get(self.keyword, "").casefold()
        if self.is_part:
            return any(text in value for text in self.texts)
        return value in self.texts or any(each in self.texts for each in value.split("\\"))


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """A kind of image, and what of it is blackened."""

    conditions: tuple[Condition, ...]
    regions: tuple[Region, ...]

    def applies(self, values: Mapping[str, str]) -> bool:
        """Whether an image with such values is of this kind."""
        return all(condition.holds(values) for condition in self.conditions)


def parse_device_rule(line: str) -> DeviceRule:
    """A rule as tables have it: ``Modality=US;Manufacturer~ACME|Acme<tab>0,0,640,48``.

    Conditions are joined by ``;``; ``=`` is the whole value, ``~`` a part of it, and ``|`` parts
    texts of which one is enough.  Regions are x, y, width and height.

    Raises:
        DeviceRuleError: it is none.
    """
    texts, sign, places = line.partition("\t")
    conditions = []
    for text in texts.split(";"):
        found = _CONDITION.fullmatch(text.strip())
        if found is None or (tag_for_keyword(found[1]) is None and found[1] not in _BESIDE):
            raise DeviceRuleError(f"{text[:64]!r} is no KEYWORD=TEXT or KEYWORD~TEXT")
        values = tuple(each.strip().casefold() for each in found[3].split("|"))
        conditions.append(Condition(found[1], found[2] == "~", values))
    regions = []
    for text in places.strip().split(";"):
        place = _REGION.fullmatch(text.strip())
        if not sign or place is None:
            raise DeviceRuleError(f"{text[:64]!r} is no region: x,y,width,height after a tab")
        regions.append(Region(*map(int, place.groups())))
    return DeviceRule(tuple(conditions), tuple(regions))


def parse_device_rules(text: str) -> tuple[DeviceRule, ...]:
    """The rules of a file, one a line; ``#`` begins a comment.

    Raises:
        DeviceRuleError: a line is none.
    """
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                rules.append(parse_device_rule(line))
            except DeviceRuleError as error:
                raise DeviceRuleError(f"line {number}: {error}") from None
    return tuple(rules)


@cache
def known_devices() -> tuple[DeviceRule, ...]:
    """The rules that come with Isocenter."""
    return tuple(parse_device_rule("\t".join(cells)) for cells in table_lines("devices"))


def regions_of(values: Mapping[str, str], rules: Iterable[DeviceRule]) -> tuple[Region, ...]:
    """What is blackened of an image with such values: of every rule that applies."""
    found = [region for rule in rules if rule.applies(values) for region in rule.regions]
    return tuple(dict.fromkeys(found))


def values_of(
    tree: DataSetTree, rules: Sequence[DeviceRule], implementation: str = ""
) -> dict[str, str]:
    """The values that rules ask for; keyword → text.

    Args:
        implementation: Implementation Version Name of the file.
    """
    wanted = {condition.keyword for rule in rules for condition in rule.conditions}
    tags = {tag_for_keyword(keyword): keyword for keyword in wanted}
    if _OVERLAY_DESCRIPTION in wanted:
        tags[0x60000022] = _OVERLAY_DESCRIPTION
    values: dict[str, str] = {_IMPLEMENTATION: implementation}
    meanings = []
    for item in tree.items():
        for node in item.elements:
            keyword = tags.get(node.tag)
            if keyword is None or node.items is not None or tree.length(node) > _LONGEST:
                continue
            raw = tree.value(node)
            if node.vr in NUMBER_VRS:
                text = decode_numbers(raw, node.vr, big_endian=node.codec.big_endian)
            else:
                text = decode_text(raw, node.vr, tree.character_set(item))
            if keyword == _CODE_MEANING:
                meanings.append(text)
            elif item.parent is None:
                values[keyword] = text
    values[_CODE_MEANING] = "\\".join(meanings)
    return values
