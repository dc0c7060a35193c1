"""Presentation contexts and data sets as lines for people.

Of a data set, tags, VRs and lengths; values only for whoever asks for them, since they
are a patient's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.reader import Fragments, Item, read_data_set
from isocenter.engine.dataset.vr import encoding_of
from isocenter.engine.items import ContextResult, ProposedContext
from isocenter.services.diagnostics.findings import CONTEXT_RESULTS
from isocenter.services.dicom.data_dictionary import dictionary_vr, keyword_for_tag
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    CharacterSetError,
    character_set_of,
    decode_numbers,
    decode_text,
)
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.system.log_format import escape

#: Of one data set, as many elements are shown.
_MOST_ELEMENTS: Final = 500
#: Of one value, as many characters.
_MOST_CHARACTERS: Final = 64
_CHARACTER_SET: Final = 0x00080005
_BINARY_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT"})
_INDENT: Final = "  "


def uid_name(uid: str) -> str:
    """The name of a UID beside it, where the standard has one."""
    name = name_of(uid)
    return uid if name == uid else f"{name} ({uid})"


def show_context(context: ProposedContext) -> str:
    """A presentation context of an A-ASSOCIATE-RQ."""
    syntaxes = ", ".join(name_of(uid) for uid in context.transfer_syntaxes)
    return escape(f"context {context.context_id}: {uid_name(context.abstract_syntax)}: {syntaxes}")


def show_result(result: ContextResult, proposed: ProposedContext | None) -> str:
    """What became of it in the A-ASSOCIATE-AC; *proposed*: None, if nobody had proposed it."""
    what = uid_name(proposed.abstract_syntax) if proposed is not None else "was not proposed"
    text = CONTEXT_RESULTS.get(result.result, f"reserved result {result.result}")
    # Of what was not accepted, the transfer syntax is not significant (PS3.8 9.3.3.2).
    syntax = "" if result.result else f", {name_of(result.transfer_syntax)}"
    return escape(f"context {result.context_id}: {what}: {text}{syntax}")


def show_data_set(data: bytes, transfer_syntax: str, *, with_values: bool) -> tuple[str, ...]:
    """A line for each element of a small data set, items indented."""
    encoding = encoding_of(transfer_syntax)
    try:
        elements: Item = read_data_set(data, encoding)
    except DataSetError as error:
        return (f"not a data set in {name_of(transfer_syntax)}: {error}",)
    lines: list[str] = []
    for line in _element_lines(elements, (), encoding.big_endian, with_values, ""):
        if len(lines) == _MOST_ELEMENTS:
            lines.append("…")
            break
        lines.append(escape(line))
    return tuple(lines)


def _element_lines(
    elements: Item, character_set: tuple[str, ...], big_endian: bool, with_values: bool, indent: str
) -> Iterator[str]:
    declared = elements.get(_CHARACTER_SET)
    if declared is not None and isinstance(declared.value, bytes):
        character_set = character_set_of(declared.value)
    for tag, vr, value in elements.values():
        vr = vr or dictionary_vr(tag)
        head = f"{indent}{tag_text(tag)} {vr} {keyword_for_tag(tag)}".rstrip()
        match value:
            case Fragments():
                yield f"{head}: {len(value)} fragments"
            case tuple():
                yield f"{head}: {len(value)} item{'' if len(value) == 1 else 's'}"
                for item in value:
                    assert isinstance(item, dict)
                    inner = indent + _INDENT
                    yield from _element_lines(item, character_set, big_endian, with_values, inner)
            case _:
                shown = f" = {_value(value, vr, character_set, big_endian)}" if with_values else ""
                yield f"{head}: {len(value)} bytes{shown if value else ''}"


def _value(value: bytes, vr: str, character_set: tuple[str, ...], big_endian: bool) -> str:
    if vr in _BINARY_VRS:
        return value[: _MOST_CHARACTERS // 2].hex(" ").upper()
    if vr in NUMBER_VRS:
        text = decode_numbers(value[:_MOST_CHARACTERS], vr, big_endian=big_endian)
    else:
        try:
            text = decode_text(value, vr, character_set)
        except CharacterSetError:
            text = value.decode("latin-1")
    return repr(text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…")
