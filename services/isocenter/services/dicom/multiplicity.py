"""Value multiplicity of attributes (PS3.5 6.4, PS3.6)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_path import KeyName, parse_attribute_path
from isocenter.services.dicom.data_dictionary import multiplicity_text

_FORM: Final = re.compile(r"([0-9]{1,4})(?:-(?:([0-9]{1,4})|([0-9]{1,2})?n))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Multiplicity:
    """How many values an attribute may have.

    Attributes:
        most: None: there is no bound.
        step: the number of values above *least* is a multiple of it, as in ``2-2n``.
    """

    least: int
    most: int | None
    step: int = 1

    def __str__(self) -> str:
        """As PS3.6 writes it."""
        if self.most is not None:
            return str(self.least) if self.most == self.least else f"{self.least}-{self.most}"
        return f"{self.least}-{'' if self.step == 1 else self.step}n"

    def allows(self, count: int) -> bool:
        """Whether an attribute may have so many values."""
        if count < self.least or (self.most is not None and count > self.most):
            return False
        return (count - self.least) % self.step == 0


def parse_multiplicity(text: str) -> Multiplicity:
    """``1``, ``1-3``, ``1-n``, ``2-2n``.

    Raises:
        ValueError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no value multiplicity, such as 1, 1-3, 1-n or 2-2n")
    least = int(found[1])
    if "-" not in text:
        return Multiplicity(least, least)
    if found[2] is not None:
        most = int(found[2])
        if most < least:
            raise ValueError(f"{text!r} has a bound below its beginning")
        return Multiplicity(least, most)
    return Multiplicity(least, None, int(found[3] or 1) or 1)


@lru_cache(maxsize=1024)
def multiplicity_of(name: KeyName) -> Multiplicity | None:
    """Of an attribute by tag, keyword or path; None: the data dictionary does not have it.

    Raises:
        KeySyntaxError: it is no name.
    """
    _, tag = parse_attribute_path(name)
    text = multiplicity_text(tag)
    # Where the dictionary leaves a choice, the IOD says it.
    return parse_multiplicity(text) if _FORM.fullmatch(text) else None


def is_valid_count(name: KeyName, count: int) -> bool:
    """Whether an attribute may have so many values; nobody knows: yes.  None at all is allowed
    where its type allows it (PS3.5 7.4), which is not judged here.

    Raises:
        KeySyntaxError: it is no name.
    """
    multiplicity = multiplicity_of(name)
    return multiplicity is None or not count or multiplicity.allows(count)
