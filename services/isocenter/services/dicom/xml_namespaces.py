"""Namespaces of XML elements that are read, without expat's joined names.

Expat puts the whole URI of a namespace before every name that has its prefix: from a few hundred
kilobytes with one long URI it makes gigabytes.  So it is asked for names as they stand, and each
namespace is kept once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_DECLARATION: Final = "xmlns"


class XmlNamespaces:
    """Says in which namespace elements are, as they are opened and closed one after another."""

    def __init__(self) -> None:
        #: What each element that is open declares, by prefix.
        self._open: list[Mapping[str, str]] = []

    def opened(self, name: str, attributes: Mapping[str, str]) -> tuple[str, str]:
        """The namespace of an element, which may be empty, and its name within it.

        Args:
            name: with its prefix.

        Raises:
            ValueError: nothing declares that prefix.
        """
        declared = {
            prefix: uri
            for key, uri in attributes.items()
            if (prefix := declared_prefix(key)) is not None
        }
        self._open.append(declared)
        prefix, _, local = name.rpartition(":")
        for one in reversed(self._open):
            if prefix in one:
                return one[prefix], local
        if prefix:
            raise ValueError("an element has a prefix that nothing declares")
        return "", local

    def closed(self) -> None:
        """The element that was opened last is closed."""
        self._open.pop()


def declared_prefix(name: str) -> str | None:
    """The prefix that an attribute declares, empty for the default; None: it declares none."""
    first, _, rest = name.partition(":")
    return rest if first == _DECLARATION else None
