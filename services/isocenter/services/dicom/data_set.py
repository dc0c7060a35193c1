"""Data set of any size, read and changed by path.

    with open_dicom("ct.dcm") as ct:
        ct.text("PatientName")
        ct.numbers("PixelSpacing")
        ct.text("RequestAttributesSequence[0].ScheduledProcedureStepID")
        for attribute in ct:
            print(attribute.name, attribute.vr, attribute.length)
        ct.set("PatientID", "4711")
        ct.save("changed.dcm")

pydicom reads every value, and knows paths only one step at a time; here a file of many
gigabytes costs what its headers cost, and nothing of it is held.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from isocenter.engine.dataset.codec import Codec
from isocenter.engine.dataset.walker import (
    END,
    FRAGMENTS,
    SEQUENCE,
    Found,
    Tolerance,
    fragments_of,
    walk,
)
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_path import (
    AttributePath,
    KeyName,
    parse_attribute_path,
    path_text,
)
from isocenter.services.dicom.bulk_data import BulkValue, Parts, little_endian_pieces
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.element_texts import numbers_of
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.json_reader import read_json
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.model_edits import (
    MOST_ITEMS,
    NoSuchValueError,
    attribute_model,
    parent_in_model,
)
from isocenter.services.dicom.model_file import opened_template, write_model_file
from isocenter.services.dicom.model_reader import read_model
from isocenter.services.dicom.scope import KnownSequences, Scope

_NUMBERS: Final = frozenset(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
_DECIMALS: Final = frozenset(("DS", "IS"))
_TEXTS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
     "UT")
)  # fmt: skip
_SINGLE: Final = frozenset(("LT", "ST", "UR", "UT"))


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute, wherever in the data set; its value is read when it is asked for.

    Attributes:
        vr: as the data set says, or the data dictionary.
        length: bytes of its value, as it lies there; 0 for a sequence.
        items: how many items it has; None: it is no sequence.
        is_encapsulated: whether it has fragments in place of a value.
    """

    path: AttributePath
    vr: str
    length: int
    items: int | None
    is_encapsulated: bool
    _found: Found
    _data: Parts
    _scope: Scope

    @property
    def tag(self) -> int:
        """Its tag."""
        return self.path[1]

    @property
    def name(self) -> str:
        """Its path, as `DataSet.attribute` takes it."""
        return path_text(self.path)

    @property
    def keyword(self) -> str:
        """Of the data dictionary; empty where it has none."""
        return keyword_for_tag(self.tag)

    @property
    def text(self) -> str:
        """The value as text, several joined by a backslash; empty for bytes and sequences."""
        return "\\".join(self.texts)

    @property
    def texts(self) -> list[str]:
        """The values as texts, without padding."""
        if self.vr in _NUMBERS or self.vr == "AT":
            return numbers_of(self.value, self.vr, big_endian=self._codec.big_endian)
        if self.vr not in _TEXTS:
            return []
        text = decode_text(self.value, self.vr, self._scope.character_set)
        if not text:
            return []
        return [text] if self.vr in _SINGLE else text.split("\\")

    @property
    def numbers(self) -> list[int | float]:
        """The values as numbers, of binary VRs and of DS and IS.

        Raises:
            NoSuchValueError: it has no numbers, or a text that is none.
        """
        if self.vr not in _NUMBERS and self.vr not in _DECIMALS:
            raise NoSuchValueError(f"{self.name} has VR {self.vr}, which has no numbers")
        try:
            return [_number(text) for text in self.texts if text]
        except ValueError:
            raise NoSuchValueError(f"{self.name} has a value that is no number") from None

    @property
    def value(self) -> bytes:
        """The bytes of the value as they lie there, padding and byte order kept."""
        _, _, _, start, end, _ = self._found
        return b"" if self.items is not None else self._data[start:end]

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the value in little endian, piece by piece; of an encapsulated one with the
        headers of its items."""
        _, tag, _, start, end, codec = self._found
        if self.items is None:
            value = BulkValue((), tag, self.vr, start, end, codec, self.is_encapsulated)
            yield from little_endian_pieces(self._data, value)

    def fragments(self) -> Iterator[tuple[int, int]]:
        """Where each fragment begins and ends, in bytes of the data set, offset table first."""
        if self.is_encapsulated:
            yield from fragments_of(self._data.data, self._found)

    @property
    def _codec(self) -> Codec:
        return self._found[5]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


class _Item:
    """A data set or item: tag → attribute, and of a sequence its items."""

    __slots__ = ("attributes", "scope", "sequences")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.attributes: dict[int, Attribute] = {}
        self.sequences: dict[int, list[_Item]] = {}


class DataSet:
    """The data set of an open file.

    Changes are kept beside it until `save` writes a new file; the file itself stays as it is.

    Attributes:
        forgiven: what was not as the standard has it → byte of the data set at which it was first.
    """

    def __init__(self, file: DataSetFile, tolerance: Tolerance = Tolerance.SALVAGE) -> None:
        self._file = file
        self._data = Parts(file.data)
        self.forgiven = file.forgiven
        #: Tag at top level → its JSON model with the changes; None: it is to go.
        self._changes: dict[int, dict[str, Any] | None] = {}
        scope = Scope()
        sequences = KnownSequences(scope)
        found = walk(
            file.data, file.encoding, sequences=sequences, forgiven=self.forgiven,
            tolerance=tolerance,
        )  # fmt: skip
        self._root = self._read(found, scope, (), sequences)

    @property
    def transfer_syntax_uid(self) -> str:
        """What the data set has."""
        return self._file.head.transfer_syntax_uid

    @property
    def meta(self) -> Mapping[int, bytes]:
        """Elements of the File Meta Information; none where there is none."""
        meta = self._file.head.meta
        return {} if meta is None else meta.elements

    def _read(
        self,
        found: Iterator[Found],
        scope: Scope,
        path: tuple[tuple[int, int], ...],
        sequences: KnownSequences,
    ) -> _Item:
        item = _Item(scope)
        for one in found:
            kind, tag, vr, start, end, _ = one
            if kind == END:
                break
            items: list[_Item] | None = None
            if kind == SEQUENCE:
                items = []
                for inner in found:
                    if inner[0] == END:
                        break
                    sequences.scope = scope.inner()
                    inner_path = (*path, (tag, len(items)))
                    items.append(self._read(found, sequences.scope, inner_path, sequences))
                    sequences.scope = scope
                item.sequences[tag] = items
                vr = "SQ"
            else:
                item.sequences.pop(tag, None)
                if vr is None:
                    vr = scope.vr_of(tag)
                    vr = "UN" if vr == "SQ" else vr
                if end - start <= _MOST_NOTED:
                    scope.note(tag, self._data[start:end])
            item.attributes[tag] = Attribute(
                path=(path, tag),
                vr=vr,
                length=0 if items is not None else end - start,
                items=None if items is None else len(items),
                is_encapsulated=kind == FRAGMENTS,
                _found=one,
                _data=self._data,
                _scope=scope,
            )
        return item

    # -- Looking -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Attribute]:
        """Every attribute as the file has it, those of items behind their sequence."""
        yield from _all(self._root)

    def __contains__(self, name: KeyName) -> bool:
        return self.attribute(name) is not None

    def attribute(self, name: KeyName) -> Attribute | None:
        """The attribute of that tag, keyword or path, as the file has it; None: there is none.

        Raises:
            KeySyntaxError: *name* is none.
        """
        sequences, tag = parse_attribute_path(name, most_items=MOST_ITEMS)
        item = self._root
        for sequence, number in sequences:
            items = item.sequences.get(sequence, [])
            if number >= len(items):
                return None
            item = items[number]
        return item.attributes.get(tag)

    def text(self, name: KeyName, default: str = "") -> str:
        """Its value as text, several joined by a backslash; *default* where it is not there."""
        attribute = self.attribute(name)
        return default if attribute is None else attribute.text

    def texts(self, name: KeyName) -> list[str]:
        """Its values as texts."""
        attribute = self.attribute(name)
        return [] if attribute is None else attribute.texts

    def numbers(self, name: KeyName) -> list[int | float]:
        """Its values as numbers; none where it is not there.

        Raises:
            NoSuchValueError: it has none.
        """
        attribute = self.attribute(name)
        return [] if attribute is None else attribute.numbers

    def number(self, name: KeyName) -> int | float | None:
        """Its first value as a number; None where there is none."""
        return next(iter(self.numbers(name)), None)

    def items(self, name: KeyName) -> int:
        """How many items the sequence has; 0 where it is not there, or no sequence."""
        attribute = self.attribute(name)
        return 0 if attribute is None else attribute.items or 0

    def private_tag(self, group: int, creator: str, element: int) -> int | None:
        """The tag of a private element at top level, by the creator of its block (PS3.5 7.8.1)."""
        block = self._root.scope.block_of(group, creator)
        return None if block is None else group << 16 | block << 8 | element

    # -- Changing ------------------------------------------------------------------------

    def set(self, name: KeyName, *values: str | float | bytes, vr: str = "") -> None:
        """Give an attribute its values; no value makes it empty.

        Items of sequences on the way there are made, where they are the next ones.

        Args:
            vr: only where neither the file nor the data dictionary knows it.

        Raises:
            KeySyntaxError: *name* is none.
            NoSuchValueError: an item on the way is missing, or a value makes no sense.
        """
        sequences, tag = parse_attribute_path(name, most_items=MOST_ITEMS)
        top = sequences[0][0] if sequences else tag
        if sequences:
            model = self._model(top)
            self._set_in(model, sequences, tag, attribute_model(tag, values, vr))
        else:
            known = self._root.attributes.get(tag)
            said = known.vr if known is not None and known.vr != "UN" else ""
            model = attribute_model(tag, values, vr or said)
        try:
            read_model({f"{top:08X}": model})
        except IsocenterError as error:
            raise NoSuchValueError(str(error)) from error
        self._changes[top] = model

    def remove(self, name: KeyName) -> bool:
        """Take an attribute away; whether it was there.

        Raises:
            KeySyntaxError: *name* is none.
        """
        sequences, tag = parse_attribute_path(name, most_items=MOST_ITEMS)
        if not sequences:
            was_there = self._changes.get(tag, tag in self._root.attributes) not in (None, False)
            self._changes[tag] = None
            return was_there
        model = self._model(sequences[0][0])
        try:
            parent = parent_in_model(model, sequences)
        except NoSuchValueError:
            return False
        was_there = parent.pop(f"{tag:08X}", None) is not None
        self._changes[sequences[0][0]] = model
        return was_there

    def save(self, target: str | os.PathLike[str], *, transfer_syntax_uid: str = "") -> None:
        """Write the data set with its changes as a Part 10 file, whole or not at all.

        What was not changed goes on byte for byte, as far as the encoding stays.

        Args:
            transfer_syntax_uid: an uncompressed one; empty: that of the file.

        Raises:
            ModelError: what is there makes no file.
            DataSetError: it cannot be encoded.
            OSError: it cannot be written.
        """
        place = Path(target)
        staged = place.with_name(f".{place.name[:200]}.{secrets.token_hex(8)}")
        models = {f"{tag:08X}": model for tag, model in self._changes.items() if model is not None}
        gone = frozenset(tag for tag, model in self._changes.items() if model is None)
        try:
            with staged.open("xb") as file, opened_template(self._file) as template:
                for tag in gone:
                    template.spans.pop(tag, None)
                write_model_file(
                    read_model(models), file, transfer_syntax_uid=transfer_syntax_uid,
                    template=template,
                )  # fmt: skip
                file.flush()
                os.fsync(file.fileno())
            staged.replace(place)
        finally:
            with suppress(FileNotFoundError):
                staged.unlink()

    def _model(self, tag: int) -> dict[str, Any]:
        """A copy of the JSON model of a sequence at top level, with its changes."""
        changed = deepcopy(self._changes.get(tag))
        if changed is None:
            changed = {"vr": "SQ"}
            if tag not in self._changes and tag in self._root.attributes:
                text = json_of(
                    self._file.data, self._file.encoding, wants=lambda one: one == tag,
                    tolerance=Tolerance.SALVAGE,
                )  # fmt: skip
                found: dict[str, Any] = dict(read_json(text)[0])
                changed = found.get(f"{tag:08X}", changed)
        return changed

    @staticmethod
    def _set_in(
        model: dict[str, Any],
        sequences: Sequence[tuple[int, int]],
        tag: int,
        attribute: dict[str, Any],
    ) -> None:
        parent = parent_in_model(model, sequences, makes=True)
        key = f"{tag:08X}"
        old = parent.get(key)
        if old is not None and not attribute.get("vr"):
            attribute = {**attribute, "vr": old["vr"]}
        parent[key] = attribute


def _all(item: _Item) -> Iterator[Attribute]:
    for tag, attribute in item.attributes.items():
        yield attribute
        for inner in item.sequences.get(tag, ()):
            yield from _all(inner)


#: What others depend on is no longer than this: private creators, a character set.
_MOST_NOTED: Final = 1024


@contextmanager
def open_dicom(
    path: str | os.PathLike[str], *, tolerance: Tolerance = Tolerance.SALVAGE
) -> Iterator[DataSet]:
    """A DICOM file, or a data set alone, to look at and to change.

    Args:
        tolerance: STRICT refuses what is not as the standard has it; USUAL what cannot be read
            to its end; SALVAGE takes what there is.  `DataSet.forgiven` says what that was.

    Raises:
        NotDicomError: it is something else.
        DataSetError: it cannot be read.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file, open_data_set(file, tolerance=tolerance) as opened:
        yield DataSet(opened, tolerance)
