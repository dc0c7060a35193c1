"""Tables of de-identification, joined from what is published of PS3.15 Annex E.

    python packaging/tables/deidentification_tables.py --newest dicomfields_2026c.py
        --attributes confidentiality_profile_attributes.json --types highdicom/_standard
        --text chapter_E.rst --devices deid.dicom

None of the sources has all of it, so each row says from which edition it is and who says it:

* ``i``: innolitics/dicom-standard (MIT), 2025a: Table E.1-1 with the columns of all options;
* ``k``: dicom-anonymizer 2.1.0 (BSD-3-Clause), 2026c: the basic profile alone;
* ``h``: by hand, the options of rows that only ``k`` has;
* ``s``: the text of the standard, 2020c: Tables E.3.4-1 and E.3.10-1.

The regions of devices are those of pydicom/deid (MIT), of which some come from the Clinical Trial
Processor of the RSNA.  `highdicom` (MIT), 2026c, says which Type the attributes have whose action
depends on it, in the IOD of each SOP class.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parents[2] / "services/isocenter/services/dicom/deidentification/tables"
OPTIONS = {
    "rtnSafePrivOpt": "private", "rtnUIDsOpt": "uids", "rtnDevIdOpt": "device",
    "rtnInstIdOpt": "institution", "rtnPatCharsOpt": "patient", "rtnLongFullDatesOpt": "full",
    "rtnLongModifDatesOpt": "modified", "cleanDescOpt": "descriptors",
    "cleanStructContOpt": "structured", "cleanGraphOpt": "graphics",
}  # fmt: skip
LISTS = {
    "D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z", "X_D_TAGS": "X/D", "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U*",
}  # fmt: skip
#: What the options do with rows that are newer than the source that has the options.  A row that
#: is not here follows the basic profile under every option, which keeps less and not more.
BY_HAND = {
    "00100042": "C:patient", "00102161": "K:patient", "00102162": "K:patient",
    "00181010": "K:device", "00181011": "K:device",
    "003A0020": "C:descriptors", "003A0203": "C:descriptors", "003A020C": "C:descriptors",
    "00400556": "C:structured", "0040A034": "K:full,C:modified", "0040A035": "K:full,C:modified",
    "0040B034": "K:full,C:modified", "0040B036": "K:full,C:modified",
    "0040B03B": "C:descriptors", "0040B03F": "C:descriptors",
    "00700006": "C:graphics", "300A0054": "K:uids",
}  # fmt: skip
#: Groups that repeat, as both sources write them.
REPEATED = {
    "50XXXXXX": "50000000", "60XX4000": "60004000", "60XX3000": "60003000",
}  # fmt: skip


def attribute_rows(attributes: Path, newest: Path) -> Iterator[str]:
    """Rows of Table E.1-1: tag, action, options, in a composite IOD, edition, sources."""
    full = {}
    for row in json.loads(attributes.read_text("utf-8")):
        tag = re.sub(r"[(),]", "", row["tag"]).upper()
        full["PRIVATE" if tag.startswith("GGGG") else tag] = row
    basic = {}
    for name, tags in runpy.run_path(str(newest)).items():
        if name in LISTS:
            basic.update({f"{tag[0]:04X}{tag[1]:04X}": LISTS[name] for tag in tags})
    for patterned, plain in REPEATED.items():
        assert basic.pop(plain) == full[patterned]["basicProfile"]
    for tag in sorted(full.keys() | basic.keys()):
        row = full.get(tag)
        if row is None:
            options = BY_HAND.get(tag, "")
            yield "\t".join((tag, basic[tag], options, "Y", "2026c", "kh" if options else "k"))
            continue
        assert basic.get(tag, row["basicProfile"]) == row["basicProfile"], tag
        is_both = tag in basic or tag in REPEATED
        options = ",".join(f"{row[key]}:{name}" for key, name in OPTIONS.items() if key in row)
        edition, source = ("2026c", "ik") if is_both else ("2025a", "i")
        yield "\t".join((tag, row["basicProfile"], options, row["stdCompIOD"], edition, source))


def type_rows(standard: Path, tags: set[str]) -> Iterator[str]:
    """Rows of SOP class, and the tags that are of Type 1 or 1C in its IOD and of Type 2 or 2C, in
    the data set and in its items."""
    from pydicom.datadict import tag_for_keyword

    sop_classes = json.loads((standard / "sop_class_iod_map.json").read_text())
    iods = json.loads((standard / "iod_module_map.json").read_text())
    modules = json.loads((standard / "module_attribute_map.json").read_text())
    for uid, iod in sorted(sop_classes.items()):
        types: dict[tuple[bool, str], str] = {}
        for module in iods[iod]:
            for attribute in modules.get(module["key"], ()):
                tag = tag_for_keyword(attribute["keyword"])
                key = bool(attribute["path"]), f"{tag:08X}" if tag is not None else ""
                kind = attribute["type"][:1]
                if key[1] in tags and kind in "12":
                    types[key] = min(types.get(key, "9"), kind)
        lists = [
            ",".join(sorted(tag for at, tag in types if types[at, tag] == kind and at is is_nested))
            for is_nested in (False, True)
            for kind in "12"
        ]
        yield "\t".join((uid.removeprefix("1.2.840.10008."), *lists))


def grid_tables(text: str) -> Iterator[list[list[str]]]:
    """Tables of reStructuredText, as rows of cells; broken words are joined."""
    rows: list[list[str]] = []
    cells: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        line = line.strip()
        if line.startswith(("+-", "+=")):
            if cells:
                rows.append(["\n".join(filter(None, cell)) for cell in cells])
            cells = []
        elif line.startswith("|"):
            parts = [part.strip() for part in line.strip("|").split("|")]
            if not cells:
                cells = [[] for _ in parts]
            for cell, part in zip(cells, parts, strict=True):
                cell.append(part)
        elif rows and not line:
            yield rows
            rows = []


def concept_rows(text: str) -> Iterator[str]:
    """Rows of Table E.3.4-1: code, scheme, value type, action, options."""
    names = ("uids", "device", "institution", "patient", "full", "modified", "descriptors")
    for table in grid_tables(text):
        if len(table[0]) != 14:
            continue
        for row in table[1:]:
            cells = [cell.replace("\n", "") for cell in row]
            _, code, scheme, kind, _, _, basic, *options = cells
            found = ",".join(
                f"{action}:{name}" for name, action in zip(names, options, strict=True) if action
            )
            yield f"{code}\t{scheme}\t{kind}\t{basic}\t{found}"


def private_rows(text: str) -> Iterator[str]:
    """Rows of Table E.3.10-1: group, last two digits of the element, private creator."""
    for table in grid_tables(text):
        if len(table[0]) != 5 or "Creator" not in table[0][1]:
            continue
        for row in table[1:]:
            found = re.fullmatch(r"\(([0-9A-Fa-f]{4}),xx([0-9A-Fa-f]{2})\)", row[0])
            assert found is not None, row
            creator = row[1].replace("\n", " ").replace("ULTRA- SOUND", "ULTRA-SOUND")
            yield f"{found[1]}{found[2]}\t{creator}".upper().replace(creator.upper(), creator)


#: What some rules write otherwise than the data dictionary.
SPELLINGS = {"Manfacturer": "Manufacturer", "Manufacture": "Manufacturer"}
#: Modalities that are none: what is meant, or nothing.
MODALITIES = {"PET/CT": "PT|CT", "MRI": "", "Other": ""}


def device_rows(text: str) -> Iterator[str]:
    """Rows of what a data set has to say, and the regions that are blackened then: x, y, width,
    height.  Conditions are joined by ``;``; ``~`` is contains, ``=`` equals, ``|`` one of these."""
    seen = set()
    text = text.partition("%header")[0]
    for label in re.split(r"^LABEL ", text, flags=re.MULTILINE)[1:]:
        regions = []
        for kind, numbers in re.findall(r"(ctp)?coordinates\s+([\d, ]+)", label):
            x, y, width, height = (int(number) for number in numbers.split(","))
            regions.append((x, y, width, height) if kind else (x, y, width - x, height - y))
        if not regions:
            continue
        alternatives: list[list[str]] = [[]]
        for line in label.splitlines()[1:]:
            found = [condition_of(part) for part in line.strip(" +").split("||")]
            if any(found):
                alternatives = [[*each, one] for each in alternatives for one in found if one]
        for conditions in alternatives:
            unique = [each for each in dict.fromkeys(conditions) if not each.startswith("-")]
            row = ";".join(unique) + "\t" + ";".join(",".join(map(str, each)) for each in regions)
            if unique and row not in seen:
                seen.add(row)
                yield row


def condition_of(text: str) -> str:
    """One condition; empty: that line has none, ``-``: one that says nothing."""
    found = re.fullmatch(r"(contains|equals)\s+(\w+)\s+(.+)", text.strip())
    if found is None:
        return ""
    kind, name, value = found.groups()
    name = SPELLINGS.get(name, name)
    value = value.strip()
    if name == "Modality":
        value = MODALITIES.get(value, value)
        kind = "equals"
    if not value:
        return "-"
    return f"{name}{'~' if kind == 'contains' else '='}{value}"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("attributes", "newest", "types", "text", "devices"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    text = given.text.read_text("utf-8")
    attributes = list(attribute_rows(given.attributes, given.newest))
    chosen = {row.split("\t")[0] for row in attributes if "/" in row.split("\t")[1]}
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, head, rows in (
        ("attributes", "tag action options composite edition source", attributes),
        (
            "types",
            "sop_class type_1 type_2 nested_type_1 nested_type_2",
            type_rows(given.types, chosen),
        ),
        ("concepts", "code scheme value_type action options", concept_rows(text)),
        ("safe_private", "element creator", private_rows(text)),
        ("devices", "conditions regions", device_rows(given.devices.read_text("utf-8"))),
    ):
        lines = [head.replace(" ", "\t"), *rows]
        (TARGET / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
