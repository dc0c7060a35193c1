"""Marks of digital signatures, in each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from isocenter.services.archive.signature_marks.mark import SignatureMark
from isocenter.services.archive.signature_marks.ports import SignatureCount
from isocenter.storage.stores import Stores, join_stores
from storage.database.test_validation import STUDY
from storage.database.test_validation import record as unsigned
from storage.databases import open_database

pytestmark = pytest.mark.usefixtures("each_database")

VALID = SignatureMark(
    state="valid", signatures=2, signer="Dr Fillgrave", purpose="Author's Signature"
)


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    async with open_database() as database:
        yield join_stores(database)


def count(state: str, objects: int, example: int, **more: str) -> SignatureCount:
    return SignatureCount(
        state=state, objects=objects, example=f"1.3.{example}",
        **{"signer": "", "purpose": "", **more},
    )  # fmt: skip


async def test_what_is_signed_waits_until_it_was_verified() -> None:
    async with stores() as there:
        signed = [replace(unsigned(number), is_signed=True) for number in (1, 2)]
        await there.index.add([*signed, unsigned(3)])
        assert list(await there.signatures.waiting(10)) == ["1.3.1", "1.3.2"]
        assert list(await there.signatures.of_study(STUDY)) == [count("unknown", 2, 1)]
        await there.signatures.note("1.3.1", VALID)
        assert list(await there.signatures.waiting(10)) == ["1.3.2"]
        # What cannot be verified is not tried over and over.
        await there.signatures.note("1.3.2", SignatureMark())
        assert list(await there.signatures.waiting(10)) == []
        assert list(await there.signatures.of_study(STUDY)) == [
            count("unknown", 1, 2),
            count("valid", 1, 1, signer="Dr Fillgrave", purpose="Author's Signature"),
        ]


async def test_what_takes_the_place_of_an_object_is_verified_anew() -> None:
    async with stores() as there:
        first = replace(unsigned(1), is_signed=True)
        await there.index.add([first])
        await there.signatures.note("1.3.1", VALID)
        again = replace(unsigned(1, digest="1"), is_signed=True)
        await there.index.add([again], replace=True)
        assert list(await there.signatures.waiting(10)) == ["1.3.1"]
        await there.index.add([unsigned(1, digest="2")], replace=True)
        assert list(await there.signatures.of_study(STUDY)) == []


async def test_what_was_verified_says_nothing_of_what_has_its_place_since() -> None:
    async with stores() as there:
        await there.index.add([replace(unsigned(1, digest="1"), is_signed=True)])
        again = replace(unsigned(1, digest="2"), is_signed=True)
        await there.index.add([again], replace=True)
        for mark in (VALID, SignatureMark()):
            await there.signatures.note("1.3.1", mark, digest="1")
            assert list(await there.signatures.waiting(10)) == ["1.3.1"]
        await there.signatures.note("1.3.1", VALID, digest="2")
        assert list(await there.signatures.waiting(10)) == []


async def test_signatures_of_items_are_marked_when_they_are_found() -> None:
    """Arrival looks at those of the object itself alone."""
    async with stores() as there:
        await there.index.add([unsigned(1)])
        await there.signatures.note("1.3.1", SignatureMark())
        assert list(await there.signatures.of_study(STUDY)) == []
        await there.signatures.note("1.3.1", VALID)
        (found,) = await there.signatures.of_study(STUDY)
        assert (found.state, found.objects) == ("valid", 1)
