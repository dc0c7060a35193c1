"""Part 10 file made from a JSON or XML model.

Written piece by piece: long values are read from where they lie when their turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from tempfile import TemporaryFile
from typing import IO, Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    Reencoder,
    Survey,
    encoding_of,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.codec import codec_of
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import (
    DEFLATED_LITTLE,
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    MAX_SHORT_LENGTH,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    SPACE_PADDED_VRS,
    UNDEFINED_LENGTH,
)
from isocenter.engine.dataset.walker import END, FRAGMENTS, SEQUENCE, walk
from isocenter.engine.dataset.walker import ITEM as BEGINS_ITEM
from isocenter.engine.dataset.writer import WritableElement
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, UNCOMPRESSED, is_safe_uid
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.data_set_file import DataSetFile, mapped
from isocenter.services.dicom.element_values import CHARACTER_SET_VRS, character_set_of
from isocenter.services.dicom.long_values import Fragments, LongValue
from isocenter.services.dicom.model_reader import (
    ModelElement,
    ModelError,
    ModelItem,
    ReadModel,
    encode_texts,
)
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_META_CLASS: Final = 0x00020002
_META_INSTANCE: Final = 0x00020003
_META_SYNTAX: Final = 0x00020010
_META_SOURCE: Final = 0x00020016

_CODEC: Final = codec_of(EXPLICIT_LITTLE)
_ITEM_HEADER: Final = Struct("<HHI")
_ITEM_MARK: Final = _CODEC.item_mark(ITEM, 0)[:4]
_DELIMITATION: Final = _CODEC.item_mark(SEQUENCE_DELIMITATION, 0)
#: What is read, re-encoded and written at once; and elements that are encoded together.
_PIECE: Final = 1 << 20
_TOGETHER: Final = 1_000


@dataclass(frozen=True, slots=True)
class Template:
    """The data set that a model is laid over, in explicit VR little endian.

    Attributes:
        spans: tag → where the whole element lies in *data*, with its header.
        has_texts: whether some of it is not ASCII, and means something in *character_set* only.
    """

    data: memoryview
    transfer_syntax_uid: str
    spans: dict[int, tuple[int, int]]
    character_set: tuple[str, ...]
    has_texts: bool


@contextmanager
def opened_template(file: DataSetFile) -> Iterator[Template]:
    """The data set of *file* as a template.

    Raises:
        DataSetError: it cannot be read.
    """
    syntax, encoding, data = file.head.transfer_syntax_uid, file.encoding, file.data
    if encoding in (EXPLICIT_LITTLE, DEFLATED_LITTLE):
        yield _template(data, syntax)
        return
    with TemporaryFile() as target:
        survey = Survey(encoding, EXPLICIT_LITTLE, dictionary_vr_choice)
        for start in range(0, len(data), _PIECE):
            survey.feed(data[start : start + _PIECE])
        survey.finish()
        reencoder = Reencoder(encoding, EXPLICIT_LITTLE, dictionary_vr_choice, odd=survey.odd)
        for start in range(0, len(data), _PIECE):
            target.writelines(reencoder.feed(data[start : start + _PIECE]))
        target.writelines(reencoder.finish())
        target.flush()
        with mapped(target, 0) as explicit:
            yield _template(explicit, syntax)


def _template(data: memoryview, syntax: str) -> Template:
    spans: dict[int, tuple[int, int]] = {}
    character_set: tuple[str, ...] = ()
    has_texts = False
    start = depth = outermost = 0
    for kind, tag, vr, value, end, _ in walk(data, EXPLICIT_LITTLE):
        after = end
        if kind in (SEQUENCE, BEGINS_ITEM):
            if not depth:
                outermost = tag
            depth += 1
            continue
        if kind == END:
            depth -= 1
            tag = outermost
        elif kind == FRAGMENTS:
            if bytes(data[end : end + 4]) == _DELIMITATION[:4]:
                after += len(_DELIMITATION)
        elif vr in CHARACTER_SET_VRS:
            has_texts = has_texts or not bytes(data[value:end]).isascii()
        elif tag == SPECIFIC_CHARACTER_SET and not depth:
            character_set = character_set_of(bytes(data[value:end]))
        if not depth:
            spans[tag] = (start, after)
            start = after
    return Template(data, syntax, spans, character_set, has_texts)


def write_model_file(
    read: ReadModel,
    target: IO[bytes],
    *,
    transfer_syntax_uid: str = "",
    template: Template | None = None,
) -> None:
    """Write a Part 10 file.

    Args:
        transfer_syntax_uid: an uncompressed one; empty: what the template or the model says,
            else explicit VR little endian.
        template: has what the model has not.

    Raises:
        ModelError: what the model says makes no file; the message says why.
        DataSetError, LocalProtocolError: it cannot be encoded.
        OSError: bulk data cannot be read, or the file not be written.
    """
    made = ModelFile(read, template=template, transfer_syntax_uid=transfer_syntax_uid)
    target.write(made.meta())
    for piece in made.data_set():
        target.write(piece)


class ModelFile:
    """A Part 10 file that is made piece by piece.

    Args: as of `write_model_file`; raises as well.

    Attributes:
        transfer_syntax_uid: in which it is.
        sop_class_uid, sop_instance_uid: what it is.
    """

    def __init__(
        self, read: ReadModel, *, template: Template | None = None, transfer_syntax_uid: str = ""
    ) -> None:
        self._elements = read.elements
        self._template = template
        self._meta = read.meta
        preferred = () if template is None else template.character_set
        chosen = encode_texts(read, preferred)
        if template is not None and template.has_texts and chosen != template.character_set:
            raise ModelError(
                "the texts of the template are in another character set; give the same one as "
                f"{tag_text(SPECIFIC_CHARACTER_SET)}"
            )
        self._has_fragments = False
        self.transfer_syntax_uid = self._chosen_syntax(transfer_syntax_uid)
        self.sop_class_uid = self._uid(_SOP_CLASS_UID) or self._meta.get(_META_CLASS, "")
        self.sop_instance_uid = self._uid(_SOP_INSTANCE_UID) or self._meta.get(_META_INSTANCE, "")
        for tag, uid in (
            (_SOP_CLASS_UID, self.sop_class_uid),
            (_SOP_INSTANCE_UID, self.sop_instance_uid),
        ):
            if not is_safe_uid(uid):
                raise ModelError(f"{tag_text(tag)} is missing or no UID; a DICOM file needs one")

    def meta(self) -> bytes:
        """Preamble and File Meta Information."""
        source = self._meta.get(_META_SOURCE, "")
        return write_file_meta(
            self.sop_class_uid,
            self.sop_instance_uid,
            self.transfer_syntax_uid,
            source if source.isascii() else "",
        )

    def data_set(self) -> Iterator[Buffer]:
        """The data set behind it, encoded."""
        encoding = encoding_of(self.transfer_syntax_uid)
        if encoding == EXPLICIT_LITTLE:
            yield from self._pieces()
            return
        reencoder = Reencoder(EXPLICIT_LITTLE, encoding, dictionary_vr_choice)
        for piece in self._pieces():
            yield from reencoder.feed(piece)
        yield from reencoder.finish()

    def _uid(self, tag: int) -> str:
        element = self._elements.get(tag)
        if element is not None:
            value = element.value
        elif self._template is not None and tag in self._template.spans:
            start, end = self._template.spans[tag]
            value = bytes(self._template.data[start + 8 : end])
        else:
            return ""
        return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""

    def _chosen_syntax(self, wanted: str) -> str:
        template = self._template
        said = self._meta.get(_META_SYNTAX, "") if template is None else ""
        stored = (
            template.transfer_syntax_uid if template is not None else said
        ) or EXPLICIT_VR_LITTLE_ENDIAN
        if not is_safe_uid(stored):
            raise ModelError("(0002,0010) is no UID")
        pixels = self._elements.get(PIXEL_DATA)
        has_pixels = pixels is not None and not pixels.uri
        from_template = not has_pixels and template is not None and PIXEL_DATA in template.spans
        if stored in UNCOMPRESSED:
            return wanted or stored
        if not has_pixels and not from_template:
            return wanted or EXPLICIT_VR_LITTLE_ENDIAN
        if pixels is not None and has_pixels:
            self._has_fragments = _are_fragments(pixels.value)
            if not self._has_fragments:
                if wanted:
                    return wanted
                raise ModelError(
                    f"{tag_text(PIXEL_DATA)} is not compressed, as the transfer syntax says it "
                    "is; say with -t which one is right"
                )
        if wanted and wanted != stored:
            raise ModelError(
                f"{tag_text(PIXEL_DATA)} is compressed; leave out -t, and convert the file "
                "afterwards"
            )
        return stored

    def _pieces(self) -> Iterator[Buffer]:
        """The data set in explicit VR little endian."""
        template = self._template
        spans = {} if template is None else template.spans
        batch: list[WritableElement] = []
        for tag in sorted(self._elements.keys() | spans.keys()):
            element = self._elements.get(tag)
            is_special = (
                element is None
                or bool(element.uri)
                or _has_long(element)
                or (tag == PIXEL_DATA and self._has_fragments)
            )
            if element is not None and not is_special:
                batch.append((tag, element.vr, _writable(element)))
                if len(batch) < _TOGETHER:
                    continue
            if batch:
                yield write_data_set(batch, EXPLICIT_LITTLE)
                batch.clear()
            if element is None or element.uri:
                if template is None or tag not in spans:
                    raise ModelError(f"{tag_text(tag)}: its value is elsewhere, and not found")
                start, end = spans[tag]
                for at in range(start, end, _PIECE):
                    yield template.data[at : min(at + _PIECE, end)]
            elif is_special:
                yield from self._long_value(element)
        if batch:
            yield write_data_set(batch, EXPLICIT_LITTLE)

    def _long_value(self, element: ModelElement) -> Iterator[Buffer]:
        value = element.value
        if isinstance(value, list):
            yield from _long_sequence(element.tag, value)
            return
        has_fragments = element.tag == PIXEL_DATA and self._has_fragments
        if isinstance(value, bytes) and has_fragments:
            yield _CODEC.header(element.tag, "OB", UNDEFINED_LENGTH)
            yield value
            yield _DELIMITATION
            return
        assert not isinstance(value, bytes)
        yield from _long_element(element, value, has_fragments=has_fragments)


def _has_long(element: ModelElement) -> bool:
    """Whether some of its value is read only when it is written."""
    value = element.value
    if isinstance(value, list):
        return any(_has_long(inner) for item in value for inner in item.values())
    return not isinstance(value, bytes)


def _long_sequence(tag: int, items: list[ModelItem]) -> Iterator[Buffer]:
    yield _CODEC.header(tag, "SQ", UNDEFINED_LENGTH)
    for item in items:
        yield _CODEC.item_mark(ITEM, UNDEFINED_LENGTH)
        for inner, element in sorted(item.items()):
            value = element.value
            if element.uri or not _has_long(element):
                yield write_data_set([(inner, element.vr, _writable(element))], EXPLICIT_LITTLE)
            elif isinstance(value, list):
                yield from _long_sequence(inner, value)
            else:
                assert not isinstance(value, bytes)
                yield from _long_element(element, value)
        yield _CODEC.item_mark(ITEM_DELIMITATION, 0)
    yield _DELIMITATION


def _long_element(
    element: ModelElement, value: LongValue, *, has_fragments: bool = False
) -> Iterator[Buffer]:
    if isinstance(value, Fragments) or has_fragments:
        yield _CODEC.header(element.tag, "OB", UNDEFINED_LENGTH)
        yield from value.pieces()
        yield _DELIMITATION
        return
    length = value.length
    if length >= UNDEFINED_LENGTH - 1:
        raise ModelError(f"{tag_text(element.tag)} is longer than a value can be")
    vr = element.vr
    if vr not in LONG_VRS and length > MAX_SHORT_LENGTH:
        vr = "UN"
    yield _CODEC.header(element.tag, vr, length + (length & 1))
    yield from value.pieces()
    if length & 1:
        yield b" " if element.vr in SPACE_PADDED_VRS else b"\0"


def _writable(element: ModelElement) -> bytes | list[list[WritableElement]]:
    value = element.value
    if element.uri:
        raise ModelError(f"{tag_text(element.tag)}: its value is elsewhere, and not found")
    if isinstance(value, list):
        return [writable_item(item) for item in value]
    return value if isinstance(value, bytes) else b"".join(value.pieces())


def writable_item(item: ModelItem) -> list[WritableElement]:
    """A data set, or an item, that fits in memory, as `write_data_set` takes it."""
    return [(tag, element.vr, _writable(element)) for tag, element in sorted(item.items())]


def _are_fragments(value: bytes | LongValue | list[ModelItem]) -> bool:
    """Whether a value is made of items, as an encapsulated one is (PS3.5 A.4)."""
    if isinstance(value, Fragments):
        return True
    if isinstance(value, list):
        return False
    if isinstance(value, bytes):
        return _ends_with_an_item(len(value), lambda at: value[at : at + _ITEM_HEADER.size])
    return _ends_with_an_item(value.length, lambda at: value.read(at, _ITEM_HEADER.size))


def _ends_with_an_item(length: int, header_at: Callable[[int], bytes]) -> bool:
    at = 0
    while at < length:
        header = header_at(at)
        if len(header) < _ITEM_HEADER.size or header[:4] != _ITEM_MARK:
            return False
        at += _ITEM_HEADER.size + int(_ITEM_HEADER.unpack(header)[2])
    return at == length and bool(length)
