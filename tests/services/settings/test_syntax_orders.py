"""Transfer syntaxes in the settings, and orders of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.syntax_orders import (
    MAX_ORDERS,
    SYNTAX_ORDERS,
    SyntaxOrderFault,
    SyntaxOrderKind,
    parse_order,
)

LEAST = {"preference": ["jpeg-ls"]}
ALL = {
    "sop_classes": ["US", "CTImageStorage", "1.2.3.4"],
    "ae_titles": ["WS*"],
    "preference": ["JPEG2000Lossless", "1.2.840.10008.1.2.1", "jpeg-ls"],
    "only": True,
}


@pytest.mark.parametrize("table", [LEAST, ALL])
def test_what_is_shown_is_read_again(table: dict[str, object]) -> None:
    kind, order = SyntaxOrderKind(), parse_order(table)
    assert kind.from_text(kind.to_toml(order)) == order


def test_names_become_uids() -> None:
    order = parse_order(ALL)
    assert order.preference == (
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.4.80",
    )
    assert {"1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"} <= (
        order.sop_classes
    )
    assert (order.ae_titles, order.is_only) == (("WS*",), True)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("text", r"each order is a table: \[\[transfer_syntaxes.orders\]\]"),
        ({}, "preference names the transfer syntaxes"),
        ({"preference": []}, "preference is empty"),
        ({"preference": "jpeg-ls"}, "preference must be a list"),
        ({"preference": ["jpeg9"]}, r"preference no\. 1: 'jpeg9' must be a transfer syntax"),
        ({"preference": ["CTImageStorage"]}, "must be a transfer syntax"),
        ({**LEAST, "sop_classes": ["XYZ"]}, "sop_classes: 'XYZ' is no storage SOP class"),
        ({**LEAST, "sop_classes": []}, "sop_classes is empty; leave it out"),
        ({**LEAST, "ae_titles": ["A\\B"]}, r"ae_titles no\. 1"),
        ({**LEAST, "only": 1}, "only is true or false"),
        ({**LEAST, "prefer": []}, "there is no 'prefer'"),
    ],
)
def test_a_fault_says_what_is_wrong(table: object, fault: str) -> None:
    with pytest.raises(SyntaxOrderFault, match=fault):
        SyntaxOrderKind().from_toml(table)


def test_there_are_only_so_many() -> None:
    with pytest.raises(SyntaxOrderFault, match=f"there may be {MAX_ORDERS}"):
        SYNTAX_ORDERS.from_toml([LEAST] * (MAX_ORDERS + 1))


def test_a_file_has_them_as_tables(tmp_path: Path) -> None:
    file = tmp_path / "isocenter.toml"
    file.write_text(
        '[transfer_syntaxes]\npreference = ["jpeg-ls"]\n'
        '[[transfer_syntaxes.orders]]\nsop_classes = ["US"]\npreference = ["jpeg-baseline"]\n'
    )
    settings = load_settings(file, environ={})
    assert settings.transfer_syntaxes.preference == ("1.2.840.10008.1.2.4.80",)
    (order,) = settings.transfer_syntaxes.orders
    assert order.preference == ("1.2.840.10008.1.2.4.50",)
    file.write_text('[[transfer_syntaxes.orders]]\npreference = ["jpeg9"]\n')
    with pytest.raises(SettingsError, match="jpeg9"):
        load_settings(file, environ={})
