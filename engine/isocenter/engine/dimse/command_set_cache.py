"""Cache of command sets, read by their likeness to earlier ones.

A peer sends the same few messages again and again: same elements, same lengths, other
values.  A `Layout` remembers what the long way found out about one of them.  A command
set of the same length that agrees in every tag, every value length, the command field
and the data set type needs no second look at these; only the values are taken out.

This is a memory of facts that hold for ever (the meaning of bytes), bounded, and
without it everything comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final, NamedTuple

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse import command_set as cs
from isocenter.engine.dimse.messages import Message

#: A command set that is longer is rare: it holds a list of attributes or a long comment.
_LONGEST: Final = 512
#: Layouts of one length, and lengths; a peer that makes up more only loses the short way.
_MOST_OF_A_LENGTH: Final = 4
_MOST_LENGTHS: Final = 256
#: Their values decide what the message is.
_FIXED: Final = frozenset({cs.COMMAND_FIELD, cs.COMMAND_DATA_SET_TYPE})


class Layout(NamedTuple):
    """What is the same in all command sets of one look.

    Attributes:
        mask, pattern: as little-endian integers: the bytes that must agree, and how.
        unpack: the values that differ, in the order of ``names``.
        decoders: those of them that `unpack` leaves as bytes.
    """

    mask: int
    pattern: int
    unpack: Callable[[Buffer], tuple[Any, ...]]
    names: tuple[str, ...]
    decoders: tuple[tuple[str, Callable[[bytes], Any]], ...]
    message_class: type[Message]
    has_data_set: bool


class Layouts:
    """The layouts seen so far; holds at most a megabyte."""

    def __init__(self) -> None:
        self._by_length: dict[int, tuple[Layout, ...]] = {}

    def read(self, buffer: Buffer) -> tuple[Message, bool] | None:
        """The message, if a command set of this look came before."""
        layouts = self._by_length.get(len(buffer))
        if layouts is not None:
            number = int.from_bytes(buffer, "little")
            for mask, pattern, unpack, names, decoders, message_class, has_data_set in layouts:
                if number & mask == pattern:
                    values = dict(zip(names, unpack(buffer), strict=True))
                    for name, decode in decoders:
                        values[name] = decode(values[name])
                    return message_class(**values), has_data_set
        return None

    def remember(
        self,
        buffer: Buffer,
        fields: Mapping[int, tuple[str, Callable[[bytes], Any]]],
        message_class: type[Message],
        has_data_set: bool,
    ) -> None:
        """Keep the look of a command set that was read the long way.

        Args:
            fields: by element, what the message is made of: the name, and how it is read.
        """
        length = len(buffer)
        if length > _LONGEST:
            return
        mask = bytearray(b"\xff" * length)
        form, position = "<", 0
        names: list[str] = []
        decoders: list[tuple[str, Callable[[bytes], Any]]] = []
        for element, start, size in cs.value_places(buffer):
            if element not in _FIXED:
                mask[start : start + size] = bytes(size)
            if element not in fields:
                continue
            name, decode = fields[element]
            if name in names:
                return  # an element that stands twice
            if decode is cs.decode_us:
                kind = "H"
            else:
                kind = f"{size}s"
                decoders.append((name, decode))
            names.append(name)
            form += f"{start - position}x{kind}"
            position = start + size
        must_agree = int.from_bytes(mask, "little")
        layout = Layout(
            must_agree,
            int.from_bytes(buffer, "little") & must_agree,
            Struct(f"{form}{length - position}x").unpack,
            tuple(names),
            tuple(decoders),
            message_class,
            has_data_set,
        )
        if length not in self._by_length and len(self._by_length) >= _MOST_LENGTHS:
            self._by_length.clear()
        self._by_length[length] = (layout, *self._by_length.get(length, ()))[:_MOST_OF_A_LENGTH]
