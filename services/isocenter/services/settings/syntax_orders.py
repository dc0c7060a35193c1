"""Settings that hold transfer syntaxes, and orders of them by SOP class and peer."""

from __future__ import annotations

from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.association.server.syntax_orders import SyntaxOrder
from isocenter.services.dicom.uid_registry import TRANSFER_SYNTAXES, uid_of_keyword
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.age_tables import check_keys, truth_in
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline

MAX_ORDERS: Final = 100
_KEYS: Final = frozenset({"sop_classes", "ae_titles", "preference", "only"})


class SyntaxOrderFault(kinds.InvalidValueError):
    """An order that cannot be; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class TransferSyntaxKind:
    """A transfer syntax; its value is the UID."""

    allowed: str = (
        "a transfer syntax by UID, or by a word such as jpeg2000 or JPEG2000Lossless "
        "(dcmconv --list-syntaxes)"
    )

    def from_toml(self, value: object) -> str:
        """A text."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """A UID, the word that our commands have for it, or the keyword of PS3.6."""
        if is_uid(text):
            return text
        from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD  # few need it

        known = BY_KEYWORD.get(text)
        uid = known.uid if known is not None else uid_of_keyword(text)
        if uid is None or uid not in TRANSFER_SYNTAXES:
            raise ValueError
        return uid

    def to_toml(self, value: object) -> str:
        """Its UID."""
        return kinds.toml_string(str(value))


_SYNTAXES: Final = kinds.ListOf(TransferSyntaxKind())
_TITLES: Final = kinds.ListOf(kinds.AE_TITLE_PATTERN)


def parse_order(table: object) -> SyntaxOrder:
    """One table of ``[[transfer_syntaxes.orders]]``.

    Raises:
        SyntaxOrderFault: it cannot be.
    """
    if not isinstance(table, dict):
        raise SyntaxOrderFault("each order is a table: [[transfer_syntaxes.orders]]")
    check_keys(table, _KEYS, SyntaxOrderFault)
    preference = _list(table, "preference", _SYNTAXES)
    if not preference:
        raise SyntaxOrderFault('preference names the transfer syntaxes: ["jpeg-ls", "explicit"]')
    return SyntaxOrder(
        preference=preference,
        sop_classes=_sop_classes(table),
        ae_titles=_list(table, "ae_titles", _TITLES),
        is_only=truth_in(table, "only", SyntaxOrderFault),
    )


def _list(table: dict[str, Any], key: str, kind: kinds.ListOf[str]) -> tuple[str, ...]:
    try:
        found = kind.from_toml(table.get(key, []))
    except kinds.InvalidPartsError as error:
        fault = error.faults[0]
        raise SyntaxOrderFault(
            f"{key} {fault.where}: {fault.value!r} must be {fault.allowed}"
        ) from None
    except (ValueError, TypeError):
        raise SyntaxOrderFault(f"{key} must be {kind.allowed}") from None
    if key in table and not found:
        raise SyntaxOrderFault(f"{key} is empty; leave it out for all of them")
    return found


def _sop_classes(table: dict[str, Any]) -> frozenset[str]:
    names = _list(table, "sop_classes", kinds.ListOf(kinds.SECRET))
    if not names:
        return frozenset()
    from isocenter.services.dicom.sop_class_families import storage_sop_classes  # few need it

    try:
        return storage_sop_classes(names)
    except ValueError as error:
        raise SyntaxOrderFault(f"sop_classes: {error}") from None


@dataclass(frozen=True, slots=True)
class SyntaxOrderKind:
    """One table of ``[[transfer_syntaxes.orders]]``."""

    allowed: str = (
        "a table [[transfer_syntaxes.orders]] with preference, and sop_classes (UIDs, keywords, or "
        "modalities), ae_titles and only if wanted"
    )

    def from_toml(self, value: object) -> SyntaxOrder:
        """A table."""
        return parse_order(value)

    def from_text(self, text: str) -> SyntaxOrder:
        """An inline table of TOML."""
        return parse_order(inline(text, SyntaxOrderFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, SyntaxOrder)
        pairs = [
            f"{key} = [{', '.join(map(kinds.toml_string, texts))}]"
            for key, texts in (
                ("sop_classes", sorted(value.sop_classes)),
                ("ae_titles", value.ae_titles),
                ("preference", value.preference),
            )
            if texts
        ]
        if value.is_only:
            pairs.append("only = true")
        return f"{{ {', '.join(pairs)} }}"


SYNTAX_ORDERS: Final = ArrayOfTables(
    SyntaxOrderKind(), "orders", MAX_ORDERS, SyntaxOrderFault, is_named=False
)
