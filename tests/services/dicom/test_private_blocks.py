"""Blocks of private attributes, compared with what pydicom makes of them."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from isocenter.services.dicom.private_blocks import (
    PrivateBlockError,
    add_private,
    block_of,
    creator_of,
    creator_tag_of,
    creators_in,
    is_creator,
    is_private_data,
    is_private_group,
    orphans,
    remove_block,
    remove_empty_blocks,
    tags_of_block,
)


@pytest.fixture
def data() -> Dataset:
    found = Dataset()
    found.PatientID = "P1"
    add_private(found, 0x0009, "ACME", 0x01, "LO", "one")
    add_private(found, 0x0009, "OTHER", 0x01, "LO", "two")
    add_private(found, 0x0009, "ACME", 0x02, "US", 3)
    return found


def test_a_block_is_reserved_once(data: Dataset) -> None:
    assert creators_in(data, 0x0009) == {"ACME": 0x00090010, "OTHER": 0x00090011}
    assert tags_of_block(data, 0x0009, "ACME") == [0x00091001, 0x00091002]
    assert data.private_block(0x0009, "ACME")[0x02].value == 3
    assert data.private_block(0x0009, "OTHER")[0x01].value == "two"
    assert creator_of(data, 0x00091101) == "OTHER"
    assert creator_of(data, 0x00100020) is None


def test_a_block_goes_with_its_creator(data: Dataset) -> None:
    assert remove_block(data, 0x0009, "ACME") == 2
    assert remove_block(data, 0x0009, "ACME") == 0
    assert sorted(map(int, data._dict)) == [0x00090011, 0x00091101, 0x00100020]
    # The lowest that is free is taken next.
    assert add_private(data, 0x0009, "NEW", 0xFF, "LO", "x") == 0x000910FF


def test_attributes_without_a_creator_are_nobodys(data: Dataset) -> None:
    data.add_new(0x00091201, "LO", "lost")
    assert orphans(data) == [0x00091201]
    assert add_private(data, 0x0009, "NEW", 1, "LO", "x") == 0x00091301
    assert creator_of(data, 0x00091201) is None


def test_creators_without_attributes_go(data: Dataset) -> None:
    del data[0x00091101]
    assert remove_empty_blocks(data) == 1
    assert list(creators_in(data, 0x0009)) == ["ACME"]


@pytest.mark.parametrize(
    ("group", "creator", "element"),
    [
        (0x0008, "ACME", 1),
        (0x0005, "ACME", 1),
        (0xFFFF, "ACME", 1),
        (0x0009, "", 1),
        (0x0009, "A\\B", 1),
        (0x0009, "A" * 65, 1),
        (0x0009, "ACME", 0x100),
        (0x0009, "ACME", -1),
    ],
)
def test_what_cannot_be_had(data: Dataset, group: int, creator: str, element: int) -> None:
    before = data.to_json()
    with pytest.raises(PrivateBlockError):
        add_private(data, group, creator, element, "LO", "x")
    assert data.to_json() == before


def test_no_block_is_free() -> None:
    data = Dataset()
    for number in range(0x10, 0x100):
        add_private(data, 0x0011, f"CREATOR {number}", 0, "LO", "x")
    with pytest.raises(PrivateBlockError, match="reserved"):
        add_private(data, 0x0011, "ONE MORE", 0, "LO", "x")


def test_predicates() -> None:
    assert is_private_group(0x0009)
    assert not any(map(is_private_group, (0x0001, 0x0007, 0x0008, 0xFFFF)))
    assert is_creator(0x00090010)
    assert is_creator(0x000900FF)
    assert not any(map(is_creator, (0x0009000F, 0x00090100, 0x00080010)))
    assert is_private_data(0x00091000)
    assert creator_tag_of(0x000910AB) == 0x00090010
    assert block_of(0x00090010) == range(0x00091000, 0x00091100)
