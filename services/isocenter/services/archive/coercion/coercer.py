"""Attributes changed on arrival, while the data set streams through.

The head of the data set, all up to and with the Original Attributes Sequence (0400,0561), is
held; once it is there, rules decide on it, and it goes on with what they change.  All other
elements of it, and everything behind it, go on byte for byte as they came: nothing is parsed
into objects and written again.  What was there before is kept in the Original Attributes
Sequence (PS3.3 C.12.1.1.9).  A deflated data set is inflated, and deflated anew only if
something changes.

What a digital signature covers is not changed: such an object is refused (PS3.3 C.12.1.1.3).
The signatures come last, when the head has passed; so they are read, but not removed.

Not in here: which rules there are, and which objects they are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_LITTLE,
    ElementScanner,
    Encoding,
    Inflater,
    Reencoder,
    encoding_of,
)
from isocenter.engine.dataset.codec import codec_of
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.coercion.edits import (
    AnyEdit,
    Edit,
    MapValue,
    ModificationReason,
    RemoveAttribute,
    SetValue,
    check_edit,
    check_wanted,
)
from isocenter.services.archive.coercion.head import (
    MAX_HEAD,
    ORIGINAL_ATTRIBUTES_SEQUENCE,
    CoercionError,
    Head,
    HeadScanner,
    head_too_long,
)
from isocenter.services.archive.coercion.head_attributes import HeadAttributes
from isocenter.services.archive.index.extraction import SPECIFIC_CHARACTER_SET
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice as vr_with_creator

__all__ = [
    "MAX_HEAD",
    "Coercer",
    "CoercionError",
    "Edit",
    "MapValue",
    "RemoveAttribute",
    "SetValue",
    "check_edit",
]

MAC_PARAMETERS_SEQUENCE: Final = 0x4FFE0001
DATA_ELEMENTS_SIGNED: Final = 0x04000020
#: Of a value of VR AT, in bytes.
_AT_LENGTH: Final = 4
#: About what is remembered of an element of the head, in bytes.
_ELEMENT_COST: Final = 200
#: Characters of an LO (PS3.5 6.2).
_MAX_LO_LENGTH: Final = 64


class Coercer:
    """Changes attributes of one data set while it passes.

    Args:
        decide: called once, when the head has come, with the texts of those of *wanted* that
            have a value: decoded, cleaned and cut as the index keeps them.  A sequence has
            none.  Its edits are applied in order.
        wanted: tags up to (0400,0561).
        system: Modifying System (0400,0563), 1 to 64 characters.
        source: Source of Previous Values (0400,0564): whom the data set is from; may be empty.
        now: for Attribute Modification DateTime (0400,0562), written with its offset from UTC
            when it has one.
        limits: ``nesting`` and ``inflate_window``.
        undeclared: the character set in which text is read for which none is declared.  What
            is written in its place is never undeclared.
        reason: why attributes are changed.
        breaks_signatures: change also what a digital signature covers, which then holds no more.

    Attributes:
        changed: tags of which the value was changed, added or removed, ascending.  While it
            is empty the output is byte for byte the input.

    Raises:
        ValueError: a wanted tag comes behind the head, or *system* is no name.
    """

    __slots__ = (
        "_breaks_signatures",
        "_decide",
        "_deflater",
        "_encoding",
        "_held",
        "_inflater",
        "_is_decided",
        "_limits",
        "_now",
        "_raw",
        "_reason",
        "_scanner",
        "_source",
        "_system",
        "_undeclared",
        "_wanted",
        "_watch",
        "changed",
    )

    def __init__(
        self,
        transfer_syntax_uid: str,
        decide: Callable[[Mapping[int, str]], Sequence[AnyEdit]],
        wanted: frozenset[int],
        *,
        system: str,
        source: str,
        now: Callable[[], datetime],
        limits: Limits = DEFAULT_LIMITS,
        undeclared: tuple[str, ...] = (),
        reason: ModificationReason = ModificationReason.COERCE,
        breaks_signatures: bool = False,
    ) -> None:
        for tag in wanted:
            check_wanted(tag)
        if not 0 < len(system) <= _MAX_LO_LENGTH:
            raise ValueError(f"the modifying system needs a name of 1 to {_MAX_LO_LENGTH} letters")
        encoding = encoding_of(transfer_syntax_uid)
        self._decide = decide
        self._wanted = wanted
        self._system = system
        self._source = source
        self._now = now
        self._reason = reason
        self._breaks_signatures = breaks_signatures
        self._limits = limits
        self._undeclared = undeclared
        #: Inside of the deflate stream, where there is one.
        self._encoding = Encoding(encoding.implicit_vr, encoding.big_endian)
        self._scanner = HeadScanner(codec_of(self._encoding), limits)
        self._held = bytearray()
        self._is_decided = False
        #: Looks out, behind the head, for what an edit has missed.
        self._watch: ElementScanner | None = None
        self._inflater = Inflater(limits) if encoding.deflated else None
        #: What was inflated, until it is known whether it goes on as it came.
        self._raw = bytearray()
        self._deflater: Reencoder | None = None
        self.changed: tuple[int, ...] = ()

    @property
    def held(self) -> int:
        """Bytes of memory that are held, about."""
        elements = _ELEMENT_COST * len(self._scanner.elements)
        return len(self._held) + len(self._raw) + elements

    def feed(self, data: Buffer) -> Sequence[Buffer]:
        """Take the next piece, of any size.

        Returns:
            Buffers to go on with, in order; none while the head is held.  Some may be views
            of *data*: use them before its memory is used again.

        Raises:
            DataSetError: the data set is malformed or passes a limit.
            CoercionError: it is not, but the edits cannot be applied to it.
            ValueError: an edit that can be applied to no data set (see `check_edit`).

        After an error the data set is lost; feed no more of it.
        """
        if self._is_decided and self._watch is None:
            return [data]
        if self._inflater is None:
            return self._feed_plain(data)
        if not self._is_decided:
            if len(self._raw) > MAX_HEAD:
                raise head_too_long()
            self._raw += data
        out: list[Buffer] = []
        for piece in self._inflater.feed(data):
            # At once, so that no more than one inflated piece is held.
            out += self._deflated(self._feed_plain(piece))
        return out if self.changed else self._as_it_came(data)

    def finish(self) -> Sequence[Buffer]:
        """Say that the data set has ended; returns and raises as `feed` does.

        Raises:
            DataSetError: the data set is cut short.  Where there was nothing to edit nobody
                looked, and it is not seen.
            CoercionError: what an edit names came out of order, when the head had passed; or
                something that was changed is signed.
        """
        if self._is_decided and self._watch is None:
            return []
        if self._inflater is not None:
            self._inflater.finish()
        out: list[Buffer] = []
        if not self._is_decided:
            end = self._scanner.finish(len(self._held))
            out = self._apply(self._held, end)
        if self._watch is not None:
            self._watch.finish()
            self._check_passed(self._watch)
        if self._inflater is None:
            return out
        if self._deflater is None:
            return self._as_it_came(b"")
        return [*self._deflated(out), *self._deflater.finish()]

    def _check_passed(self, watch: ElementScanner) -> None:
        """Refuse what makes an edit wrong, and came behind the head."""
        for tag in watch.values:
            if tag != MAC_PARAMETERS_SEQUENCE:
                raise CoercionError(
                    f"{tag_text(tag)} is out of order (PS3.5 7.1), behind what has passed already"
                )
        if self._breaks_signatures:
            return
        macs = watch.values.get(MAC_PARAMETERS_SEQUENCE, ())
        # A UN is little endian everywhere (PS3.5 6.2.2).
        is_big = self._encoding.big_endian and watch.vrs.get(MAC_PARAMETERS_SEQUENCE) != "UN"
        for mac in macs:
            signed = mac.get(DATA_ELEMENTS_SIGNED) if isinstance(mac, Mapping) else None
            if not isinstance(signed, bytes):
                raise CoercionError("what its digital signatures cover cannot be read")
            tags = set(_tags_of(signed, big_endian=is_big))
            for tag in (*self.changed, ORIGINAL_ATTRIBUTES_SEQUENCE):
                if tag in tags:
                    raise CoercionError(f"a digital signature covers {tag_text(tag)}")

    def _feed_plain(self, data: Buffer) -> list[Buffer]:
        if self._is_decided:
            if self._watch is not None:
                self._watch.feed(data)
            return [data]
        if self._held:
            self._held += data
        whole = self._held or data
        self._scanner.scan(whole)
        if self._scanner.end is not None:
            return self._apply(whole, self._scanner.end)
        if not self._held:
            self._held += data
        return []

    def _apply(self, whole: Buffer, end: int) -> list[Buffer]:
        """Decide, and change the first *end* bytes of *whole* accordingly."""
        self._is_decided = True
        self._held = bytearray()
        view = memoryview(whole)
        elements, self._scanner.elements = self._scanner.elements, []
        head = HeadAttributes(Head(bytes(view[:end]), elements), self._encoding, self._undeclared)
        edits = self._decide(head.texts(self._wanted))
        if not edits:
            return [whole]
        anew = head.edited(edits, self._limits, declares=self._reason is ModificationReason.CORRECT)
        self.changed = tuple(sorted(anew))
        # The order of tags is not enforced: an edited one may be yet to come.
        watched = {edit.tag for edit in edits}
        if anew:
            watched |= {SPECIFIC_CHARACTER_SET, ORIGINAL_ATTRIBUTES_SEQUENCE}
            watched.add(MAC_PARAMETERS_SEQUENCE)
        self._watch = ElementScanner(
            self._encoding,
            frozenset(watched),
            self._limits,
            sequences=frozenset([MAC_PARAMETERS_SEQUENCE]),
        )
        self._watch.feed(view[end:])
        if not anew:
            return [whole]
        if self._inflater is not None:
            self._raw = bytearray()
            self._deflater = Reencoder(
                EXPLICIT_LITTLE, DEFLATED_LITTLE, vr_with_creator, self._limits
            )
        anew[ORIGINAL_ATTRIBUTES_SEQUENCE] = head.original_attributes(
            self.changed, self._now(), self._system, self._source, self._reason, self._limits
        )
        return [head.head.spliced(anew), view[end:]]

    def _deflated(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        if self._deflater is None:
            return []
        return [piece for buffer in buffers for piece in self._deflater.feed(buffer)]

    def _as_it_came(self, data: Buffer) -> list[Buffer]:
        """The deflate stream up to *data*, once it is known that nothing changes."""
        if not self._is_decided:
            return []
        if self._raw:
            data, self._raw = self._raw, bytearray()
        return [data] if len(data) else []


def _tags_of(raw: bytes, *, big_endian: bool) -> Iterator[int]:
    """Values of VR AT (PS3.5 6.2): the group, then the element."""
    order: Literal["big", "little"] = "big" if big_endian else "little"
    for start in range(0, len(raw) - _AT_LENGTH + 1, _AT_LENGTH):
        group = int.from_bytes(raw[start : start + 2], order)
        yield group << 16 | int.from_bytes(raw[start + 2 : start + _AT_LENGTH], order)
