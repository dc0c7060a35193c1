"""Orders of transfer syntaxes by SOP class and calling AE title."""

from __future__ import annotations

from isocenter.engine.negotiation import ANY, Offer
from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.association.server.syntax_orders import SyntaxOrder, ordered

CT, US = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.6.1"
JPEG, JPEG_LS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
ALL = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, JPEG, JPEG_LS)


def syntaxes(
    order: SyntaxOrder, abstract_syntax: str, title: str = "CT1", offered: tuple[str, ...] = ALL
) -> tuple[str, ...]:
    found = ordered(lambda _: Offer(transfer_syntaxes=offered), [order], title)(abstract_syntax)
    assert found is not None
    return found.transfer_syntaxes


def test_what_is_preferred_comes_first_and_the_rest_behind() -> None:
    order = SyntaxOrder(preference=(JPEG_LS, JPEG))
    assert syntaxes(order, CT) == (
        JPEG_LS,
        JPEG,
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
    )
    # It is about what is stored.
    assert syntaxes(order, VERIFICATION) == ALL


def test_it_is_for_its_sop_classes_and_its_callers_alone() -> None:
    order = SyntaxOrder(preference=(JPEG,), sop_classes=frozenset({US}), ae_titles=("US*", "X?"))
    assert syntaxes(order, US, "US1")[0] == JPEG
    assert syntaxes(order, US, "X1")[0] == JPEG
    assert syntaxes(order, CT, "US1") == ALL
    assert syntaxes(order, US, "CT1") == ALL


def test_the_default_transfer_syntax_is_always_taken() -> None:
    order = SyntaxOrder(preference=(JPEG,), is_only=True)
    assert syntaxes(order, US) == (JPEG, IMPLICIT_VR_LITTLE_ENDIAN)
    assert syntaxes(order, US, offered=(ANY,)) == (JPEG, IMPLICIT_VR_LITTLE_ENDIAN)
    # A service that does not have it gets no more than it has.
    assert syntaxes(order, US, offered=(JPEG, JPEG_LS)) == (JPEG,)


def test_what_a_service_does_not_have_is_not_offered() -> None:
    order = SyntaxOrder(preference=(JPEG_LS, JPEG))
    assert syntaxes(order, CT, offered=(EXPLICIT_VR_LITTLE_ENDIAN, JPEG)) == (
        JPEG,
        EXPLICIT_VR_LITTLE_ENDIAN,
    )
    assert ordered(lambda _: None, [order], "CT1")(CT) is None


def test_the_first_that_fits_holds() -> None:
    orders = [
        SyntaxOrder(preference=(JPEG,), sop_classes=frozenset({US})),
        SyntaxOrder(preference=(JPEG_LS,)),
    ]
    offer = ordered(lambda _: Offer(transfer_syntaxes=ALL), orders, "A")
    assert [found.transfer_syntaxes[0] for uid in (US, CT) if (found := offer(uid))] == [
        JPEG,
        JPEG_LS,
    ]
