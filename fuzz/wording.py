"""What we say of other people's bytes."""

from __future__ import annotations

from typing import Final

from isocenter.engine.describe import MAX_LENGTH, describe
from isocenter.engine.errors import LocalProtocolError

#: Our own words, with a number or a name of the standard here and there.
_LONGEST_FAULT: Final = 250


def check_fault(fault: Exception) -> None:
    """A fault is told in one line, which no peer can make long or unprintable."""
    text = str(fault)
    assert text
    assert text.isprintable()
    # What we were asked to say is quoted, and may be as long as whoever asked has made it.
    assert len(text) <= _LONGEST_FAULT or isinstance(fault, LocalProtocolError)


def check_line(value: object) -> None:
    """`describe` has a line for *value*."""
    line = describe(value)
    assert line.isprintable()
    assert 0 < len(line) <= MAX_LENGTH
    assert not line.endswith("(malformed)")
