"""Makes the table of IODs, modules and attributes out of its sources.

    python packaging/iod/build_table.py --highdicom WHEEL --dicom-standard WHEEL \\
        --dicom-standard-checkout FOLDER

* highdicom 0.28.2 (MIT): which SOP class has which IOD, which IOD which modules, which module
  which attributes of which type; of 2026.
* dicom-standard 0.1.0 (MIT): the descriptions of attributes, from which conditions and values are
  read; of 2020.
* innolitics/dicom-standard (MIT), files of January 2025: conditions of modules and of functional
  groups.
* `corrections.py`: what these lack or have wrong, from the standard.

The sources are not part of this project: `pip download --no-deps highdicom==0.28.2
dicom-standard==0.1.0`, and the folder ``standard`` of the repository.  No text of the standard
gets into the table: conditions become expressions, and what is no expression is counted.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import corrections
from condition_grammar import is_partial, tags_in
from condition_sentences import Condition, Names, condition_of, plain_text
from value_lists import section_lists, value_lists

TARGET = Path(__file__).parents[2] / "services/isocenter/services/dicom/iod/table.json.xz"
EDITIONS = [
    "2026 (highdicom 0.28.2)",
    "2025 (innolitics/dicom-standard, 28 January 2025)",
    "2020 (dicom-standard 0.1.0)",
    "2026 (typed from the standard)",
]
_HIGHDICOM = "highdicom/_standard/"
_STANDARD = "dicom_standard-0.1.0.data/data/standard/"
#: What is left out at the end of a row.
_ROW_DEFAULTS: tuple[Any, ...] = (0, "3", -1, [], -1, 0, 0)
#: Of the sequences that hold functional groups.
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: Attributes of two items, of all that either has, that make them items of one macro.
_ALIKE = 0.75
#: What tells that a sequence has coded entries (PS3.3 8.8).
_CODE = {"CodeMeaning", "CodeValue", "CodingSchemeDesignator"}
_CODE_MACRO = _CODE | {
    "CodingSchemeVersion", "ContextGroupExtensionCreatorUID", "ContextGroupExtensionFlag",
    "ContextGroupLocalVersion", "ContextGroupVersion", "ContextIdentifier", "ContextUID",
    "EquivalentCodeSequence", "LongCodeValue", "MappingResource", "MappingResourceName",
    "MappingResourceUID", "URNCodeValue",
}  # fmt: skip


class Shared:
    """Values that are kept once and named by number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        key = json.dumps(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


class Descriptions:
    """What the edition of 2020 says of attributes, found by module and path, else by its end."""

    def __init__(self, standard: dict[str, Any], names: Names, titles: dict[str, str]) -> None:
        self._names = names
        self._titles = titles
        self._references = standard["references"]
        self._by_path: dict[tuple[str, ...], dict[str, Any]] = {}
        self._beside: dict[str, set[str]] = defaultdict(set)
        self._by_end: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for row in standard["module_to_attributes"] + standard["macro_to_attributes"]:
            module, *path = row["path"].split(":")
            path = tuple(tag.lower() for tag in path)
            self._by_path[(module, *path)] = row
            self._beside[row["path"].rpartition(":")[0]].add(path[-1])
            for length in range(1, min(len(path), 4) + 1):
                self._by_end[path[-length:]].append(row)
        self._known: dict[str, tuple[Condition, list[Any], int]] = {}
        self.unread_lists = 0

    def find(
        self, module: str, path: tuple[str, ...], type_: str, beside: frozenset[str]
    ) -> tuple[Condition, list[Any]]:
        """Condition and lists of values of an attribute; what is not known says nothing.

        Args:
            beside: the attributes in one item with it.
        """
        row = self._by_path.get((module, *path))
        if row is None:
            row = self._by_end_of(path, type_, beside)
        if row is None:
            return Condition(), []
        condition, lists = self._read(row)
        if row["type"] != type_ and "C" in type_:
            condition = Condition()
        return condition, lists

    def _by_end_of(
        self, path: tuple[str, ...], type_: str, beside: frozenset[str]
    ) -> dict[str, Any] | None:
        for length in range(min(len(path), 4), 0, -1):
            rows = [row for row in self._by_end.get(path[-length:], ()) if row["type"] == type_]
            texts = {plain_text(row["description"]) for row in rows}
            if len(texts) == 1:
                return rows[0]
            if rows:
                # One attribute, several meanings: only if all conditions and lists are the same.
                if len({repr(self._meaning(row)) for row in rows}) > 1:
                    # Else only those that stand in items of the same attributes.
                    rows = [row for row in rows if self._is_alike(row, beside)]
                meanings = {repr(self._meaning(row)) for row in rows}
                return rows[0] if len(meanings) == 1 else None
        return None

    def _is_alike(self, row: dict[str, Any], beside: frozenset[str]) -> bool:
        around = row["path"].rpartition(":")[0]
        own = self._beside[around]
        return len(own & beside) >= _ALIKE * len(own | beside)

    def _meaning(self, row: dict[str, Any]) -> Any:
        condition, lists = self._read(row)
        return condition.required, condition.otherwise, condition.never, lists

    def _read(self, row: dict[str, Any]) -> tuple[Condition, list[Any]]:
        markup = row["description"]
        key = markup + row["tag"]
        if key not in self._known:
            condition = Condition()
            if row["type"] in ("1C", "2C"):
                tag = row["tag"].strip("()").replace(",", "").lower()
                condition = condition_of(plain_text(markup), self._names, tag)
            lists, unread = value_lists(markup, self._names)
            if not lists:
                name = self._titles.get(row["tag"].strip("()").replace(",", "").lower(), "")
                for reference in row.get("externalReferences", ()):
                    section = self._references.get(reference["sourceUrl"])
                    if section and not lists:
                        lists = section_lists(section, name, self._names)
            self._known[key] = condition, lists, unread
            self.unread_lists += unread
        condition, lists, _ = self._known[key]
        return condition, lists


class Builder:
    """The table, as it grows."""

    def __init__(self, sources: dict[str, Any]) -> None:
        self.sources = sources
        self.tags = {row["keyword"]: row["id"].lower() for row in sources["2025"]["attributes"]}
        self.tags |= corrections.TAGS
        titles = {
            row["id"].lower(): row["name"].replace("\u200b", "")
            for row in sources["2025"]["attributes"]
            if "x" not in row["id"].lower()
        }
        self.names = Names(titles)
        self.descriptions = Descriptions(sources["2020"], self.names, titles)
        self.conditions, self.lists, self.rows, self.groups = (Shared() for _ in range(4))
        self.counts: Counter[str] = Counter()
        self.unknown_keywords: set[str] = set()

    # -- Attributes ----------------------------------------------------------------------

    def module(self, key: str) -> int:
        """Number of the rows of a module, in `groups`."""
        found = corrections.MODULES.get(key)
        if found is None:
            found = self.sources["highdicom"]["modules"].get(key, [])
        return self._children(key, _tree(found), ())

    def _children(self, module: str, tree: dict[str, Any], path: tuple[str, ...]) -> int:
        numbers = []
        for keyword, (type_, inner) in tree.items():
            tag = self.tags.get(keyword)
            if tag is None:
                self.unknown_keywords.add(keyword)
                continue
            below = (*path, tag)
            is_code = set(inner) >= _CODE and len(set(inner) & _CODE_MACRO) > 8
            children = -1
            if is_code:
                inner = {name: what for name, what in inner.items() if name not in _CODE_MACRO}
            if inner:
                children = self._children(module, inner, below)
            beside = frozenset(self.tags.get(each, "") for each in tree)
            numbers.append(self._row(module, keyword, tag, type_, below, children, is_code, beside))
        return self.groups.number(numbers)

    def _row(
        self, module: str, keyword: str, tag: str, type_: str, path: tuple[str, ...],
        children: int, is_code: bool, beside: frozenset[str],
    ) -> int:  # fmt: skip
        correction = corrections.attribute(module, keyword)
        looked_up = path
        if len(path) > 1 and path[0] in {self.tags[group] for group in _GROUPS}:
            looked_up = path[1:]
        condition, lists = self.descriptions.find(module, looked_up, type_, beside)
        condition_number, edition = -1, 2
        if type_ in ("1C", "2C"):
            self.counts["conditional"] += 1
            if correction is not None and "condition" in correction:
                condition_number = self.conditions.number(correction["condition"])
                edition = 3
            elif condition.required is not None and (
                condition.required[0] == "dimension" or tag not in tags_in(condition.required)
            ):
                condition_number = self.conditions.number(
                    [condition.required, condition.otherwise, condition.never]
                )
                self.counts["conditional, judged in part"] += is_partial(condition.required)
            else:
                self.counts["conditional, not judged"] += 1
        if correction is not None and "values" in correction:
            lists = correction["values"]
        if correction is not None and "type" in correction:
            type_ = correction["type"]
        list_numbers = [self.lists.number(each) for each in lists]
        self.counts["rows"] += 1
        self.counts["with values"] += bool(lists)
        row: list[Any] = [int(tag.replace("x", "0"), 16), type_, condition_number, list_numbers]
        row += [children, int(is_code), edition if condition_number >= 0 or lists else 0]
        while len(row) > 2 and row[-1] == _ROW_DEFAULTS[len(row) - 1]:
            row.pop()
        return self.rows.number(row)

    # -- IODs ----------------------------------------------------------------------------

    def usage_condition(self, text: str | None) -> int:
        """Number of the condition of a module or functional group; -1: not judged."""
        if not text:
            return -1
        marked = corrections.with_modules(plain_text(text))
        condition = condition_of(marked, self.names)
        if condition.required is None:
            return -1
        return self.conditions.number([condition.required, condition.otherwise, condition.never])


def _tree(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows with paths as nested dictionaries: keyword → type, what is in it."""
    tree: dict[str, Any] = {}
    for row in rows:
        at = tree
        for keyword in row["path"]:
            at = at.setdefault(keyword, ["3", {}])[1]
        if row["keyword"] in at:
            before = at[row["keyword"]]
            before[0] = min(before[0], row["type"], key=_strictness)
        else:
            at[row["keyword"]] = [row["type"], {}]
    return tree


def _strictness(type_: str) -> int:
    return ("3", "2C", "2", "1C", "1", "None").index(type_)


def read_sources(highdicom: Path, standard: Path, checkout: Path) -> dict[str, Any]:
    """All files of the sources."""
    with zipfile.ZipFile(highdicom) as wheel:
        high = {
            name: json.loads(wheel.read(f"{_HIGHDICOM}{file}.json"))
            for name, file in (
                ("sops", "sop_class_iod_map"), ("iods", "iod_module_map"),
                ("modules", "module_attribute_map"),
            )
        }  # fmt: skip
    with zipfile.ZipFile(standard) as wheel:
        old = {
            name: json.loads(wheel.read(f"{_STANDARD}{name}.json"))
            for name in (
                "attributes", "module_to_attributes", "macro_to_attributes", "references", "macros"
            )
        }  # fmt: skip
    new = {
        name: json.loads((checkout / f"{name}.json").read_text())
        for name in (
            "attributes", "ciod_to_modules", "ciod_to_func_group_macros", "ciods", "macros",
            "modules", "sops",
        )
    }  # fmt: skip
    return {"highdicom": high, "2020": old, "2025": new}


def build(sources: dict[str, Any]) -> tuple[dict[str, Any], Builder]:
    """The table, as it is written."""
    builder = Builder(sources)
    new = sources["2025"]
    titles = {row["id"]: row["name"] for row in new["modules"]} | corrections.MODULE_NAMES
    iod_titles = {row["id"]: row["name"] for row in new["ciods"]} | corrections.IOD_NAMES
    conditions = {
        (row["ciodId"], row["moduleId"]): row["conditionalStatement"]
        for row in new["ciod_to_modules"]
    }
    iods: dict[str, list[Any]] = {
        key: [[row["key"], row["usage"]] for row in rows]
        for key, rows in sources["highdicom"]["iods"].items()
    }
    iods |= corrections.iods(iods)
    groups_of = _functional_groups(builder)
    modules: dict[str, int] = {}
    module_rows: list[Any] = []
    iod_rows: list[Any] = []
    iod_numbers: dict[str, int] = {}
    sops = {**sources["highdicom"]["sops"], **corrections.SOP_CLASSES}
    for key in iods:
        if key not in sops.values():
            continue
        rows = []
        for module, usage in iods[key]:
            if module not in modules:
                modules[module] = len(module_rows)
                module_rows.append(
                    [titles.get(module, module.replace("-", " ").title()), builder.module(module)]
                )
            source = corrections.CONDITIONS_OF.get(key, key)
            text = conditions.get((source, module))
            condition = builder.usage_condition(text) if usage == "C" else -1
            if usage == "C":
                builder.counts["conditional modules"] += 1
                builder.counts["conditional modules, not judged"] += condition < 0
            rows.append([modules[module], usage, condition])
        iod_numbers[key] = len(iod_rows)
        title = iod_titles.get(key, key.replace("-", " ").title())
        iod_rows.append([title, rows, groups_of.get(corrections.CONDITIONS_OF.get(key, key), [])])
    builder.counts["modules without attributes"] = sum(
        not builder.groups.values[group] for _, group in module_rows
    )
    table = {
        "editions": EDITIONS,
        "sop_classes": {uid: iod_numbers[key] for uid, key in sorted(sops.items())},
        "iods": iod_rows,
        "modules": module_rows,
        "groups": builder.groups.values,
        "rows": builder.rows.values,
        "conditions": builder.conditions.values,
        "values": builder.lists.values,
        "counts": dict(sorted(builder.counts.items())),
    }
    return table, builder


def _functional_groups(builder: Builder) -> dict[str, list[Any]]:
    """IOD → sequence, usage and condition of each functional group macro."""
    new, old = builder.sources["2025"], builder.sources["2020"]
    sequences: dict[str, str] = {}
    for row in old["macro_to_attributes"]:
        macro, *path = row["path"].split(":")
        if len(path) == 1:
            sequences.setdefault(macro, path[0].lower())
    titles = {row["id"]: row["name"] for row in new["macros"]}
    found: dict[str, list[Any]] = defaultdict(list)
    for row in new["ciod_to_func_group_macros"]:
        macro = row["macroId"]
        keyword = corrections.MACRO_SEQUENCES.get(macro)
        tag = builder.tags[keyword] if keyword else sequences.get(macro)
        if tag is None:
            print(f"no sequence of the functional group {macro}", file=sys.stderr)
            builder.counts["functional groups without a sequence"] += 1
            continue
        usage = row["usage"]
        text = corrections.GROUP_CONDITIONS.get((row["ciodId"], macro), row["conditionalStatement"])
        condition = builder.usage_condition(text) if usage == "C" else -1
        if usage == "C":
            builder.counts["conditional functional groups"] += 1
            builder.counts["conditional functional groups, not judged"] += condition < 0
        found[row["ciodId"]].append([int(tag, 16), titles.get(macro, macro), usage, condition])
    return found


def main() -> None:
    """Read, join, write, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--highdicom", type=Path, required=True, metavar="WHEEL")
    parser.add_argument("--dicom-standard", type=Path, required=True, metavar="WHEEL")
    parser.add_argument("--dicom-standard-checkout", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    sources = read_sources(
        arguments.highdicom, arguments.dicom_standard, arguments.dicom_standard_checkout
    )
    table, builder = build(sources)
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    # Whoever reads it allocates the whole window, which the preset makes 64 MiB wide.
    window = max(4096, len(text))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]
    packed = lzma.compress(text, filters=filters)
    arguments.output.write_bytes(packed)
    print(f"{len(table['sop_classes'])} SOP classes, {len(table['iods'])} IODs, "
          f"{len(table['modules'])} modules")  # fmt: skip
    for name in ("rows", "groups", "conditions", "values"):
        print(f"{len(table[name])} different {name}")
    for name, count in table["counts"].items():
        print(f"{name}: {count}")
    print(f"lists of values not understood: {builder.descriptions.unread_lists}")
    if builder.unknown_keywords:
        print(f"keywords without a tag: {sorted(builder.unknown_keywords)}")
    print(f"{len(text):,} bytes, packed {len(packed):,}")


if __name__ == "__main__":
    main()
