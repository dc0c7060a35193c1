"""Objects that rules have signed once they are stored."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO

import pydicom
import pytest
import trio
from pydicom.dataset import Dataset

from isocenter.services.archive.object_signing import ObjectSigned, sign_object
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.signature_check import SignatureCheck, TrustFiles
from isocenter.services.archive.signature_marks.verifier import MarkedCheck
from isocenter.services.archive.store_answers import StoreOutcome
from isocenter.services.archive.verification import verify
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.profiles import Profile
from isocenter.services.dicom.signatures.signing import Signer
from isocenter.services.dicom.signatures.verification import SignatureState
from isocenter.services.notices import Notice
from isocenter.services.workflow.compression.compressor import CompressionOptions, Compressor
from isocenter.services.workflow.compression.ports import CompressionState
from isocenter.services.workflow.events.study_completion import CompletionRules
from services.dicom.signatures.test_signing import signed as signed_file
from services.dicom.signatures.test_signing import trusting, verified
from services.workflow.compression import test_compressor as compressing
from services.workflow.compression.test_compressor import BACKOFF, House, an_image, opened
from support.signers import NOW, Issued, issue

pool = compressing.pool
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = (
    "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "JPEG2000.dcm", "image_dfl.dcm", "test-SR.dcm", "rtplan.dcm",
)  # fmt: skip
Sign = Callable[[], Signer]


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue("Authority", authority=True)


@pytest.fixture(scope="module")
def who(authority: Issued) -> Issued:
    return issue("Hospital", by=authority)


def signer(one: Issued, **how: object) -> Sign:
    made = Signer(key=one.key, certificate=one.certificate, **how)  # type: ignore[arg-type]
    return lambda: made


def worker(house: House, pool: CodecPool, sign: Sign | None) -> Compressor:
    tokens = iter(range(0xABC00000, 0xABC01000))
    return Compressor(
        house.stores.compressions,
        house.archive,
        pool,
        CompressionOptions(backoff=BACKOFF),
        notices=house.notices,
        signer=sign,
        now=house.clock,
        token=lambda: f"{next(tokens):08x}",
    )


def listening(house: House) -> list[ObjectSigned]:
    told: list[ObjectSigned] = []

    def hear(notice: Notice) -> None:
        if isinstance(notice, ObjectSigned):
            told.append(notice)

    house.notices.subscribe(hear)
    return told


def from_file(name: str) -> Dataset:
    dataset = pydicom.dcmread(DATA / name)
    if "StudyInstanceUID" not in dataset:
        dataset.StudyInstanceUID = "1.2.826.0.1.99"
    if "SeriesInstanceUID" not in dataset:
        dataset.SeriesInstanceUID = "1.2.826.0.1.98"
    return dataset


@pytest.mark.interop("dcmsign")
@pytest.mark.parametrize("name", FILES)
async def test_what_is_stored_is_signed_and_otherwise_what_came(
    tmp_path: Path, pool: CodecPool, authority: Issued, who: Issued, name: str
) -> None:
    async with opened(tmp_path, {"sign": True}) as house:
        told = listening(house)
        came = await house.receive(from_file(name))
        await worker(house, pool, signer(who)).compress_due()
        kept = await house.stored(came.sop_instance_uid)
        assert kept.received_digest == came.digest
        assert kept.transfer_syntax_uid == came.transfer_syntax_uid
        assert await house.keys() == [kept.object_key]
        raw = await house.file_of(kept)
        (found,) = verified(raw, trusting(authority))
        assert (found.state, found.signer and found.signer.common_name) == (
            SignatureState.VALID,
            "Hospital",
        )
        assert told == [
            ObjectSigned(
                study_instance_uid=came.study_instance_uid,
                sop_instance_uid=came.sop_instance_uid,
                signature_uid=found.uid,
                rule="r0",
            )
        ]
        assert not house.told
        report = await verify(house.archive)
        assert report.is_good
        assert not report.orphans.count
    (tmp_path / "kept.dcm").write_bytes(raw)
    _, ca = authority.write(tmp_path, "ca")
    words = ["dcmsign", "--verify", "+cf", str(ca), str(tmp_path / "kept.dcm")]
    judged = await trio.run_process(words, capture_stdout=True, capture_stderr=True, check=False)
    said = judged.stdout + judged.stderr
    assert judged.returncode == 0, said
    assert b"Signature Verification : OK" in said, said


async def test_only_what_the_rule_names_is_signed(
    tmp_path: Path, pool: CodecPool, who: Issued
) -> None:
    rule = {"sign": True, "when": {"calling_ae": "CT1", "modality": "CT"}}
    async with opened(tmp_path, rule) as house:
        await house.receive(an_image(1, Modality="MR"))
        assert not await worker(house, pool, signer(who)).compress_due()
        await house.receive(an_image(2, Modality="CT"))
        assert await worker(house, pool, signer(who)).compress_due()


async def test_it_waits_for_verification_and_gets_its_mark(
    tmp_path: Path, pool: CodecPool, authority: Issued, who: Issued
) -> None:
    _, ca = authority.write(tmp_path, "ca")
    async with opened(tmp_path, {"sign": True}, completes=True) as house:
        came = await house.receive(an_image())
        marks = house.stores.signatures
        assert not await marks.waiting(10)
        await worker(house, pool, signer(who, purpose=5)).compress_due()
        assert await marks.waiting(10) == [came.sop_instance_uid]
        check = MarkedCheck(
            SignatureCheck(house.archive, TrustFiles(trusted=[ca])), marks, house.notices
        )
        assert await check.verify(await house.stored(came.sop_instance_uid))
        (mark,) = await marks.of_study(came.study_instance_uid)
        assert (mark.state, mark.signer) == ("valid", "Hospital")
        # Nothing about it is new to those who look at its pixels.
        assert "instance.compressed" not in await house.kinds()


async def test_smaller_and_signed_at_once(
    tmp_path: Path, pool: CodecPool, authority: Issued, who: Issued
) -> None:
    rules = {"compress": "jpeg-ls"}, {"sign": True}
    async with opened(tmp_path, *rules, completes=True) as house:
        came = await house.receive(an_image(frames=2))
        work = worker(house, pool, signer(who))
        assert not await work.compress_due()
        house.clock.now += 10_000.0
        await house.stores.open_studies.declare(CompletionRules())
        await work.compress_due()
        kept = await house.stored(came.sop_instance_uid)
        assert (kept.transfer_syntax_uid, kept.received_digest) == (
            compressing.JPEG_LS,
            came.digest,
        )
        (found,) = verified(await house.file_of(kept), trusting(authority))
        assert found.state is SignatureState.VALID
        assert [one.outcome for one in house.told] == ["compressed"]


async def test_what_cannot_be_smaller_is_signed_all_the_same(
    tmp_path: Path, pool: CodecPool, authority: Issued, who: Issued
) -> None:
    rule = {"compress": "jpeg-ls", "compress_when": "arrival", "sign": True}
    async with opened(tmp_path, rule) as house:
        came = await house.receive(from_file("test-SR.dcm"))
        await worker(house, pool, signer(who)).compress_due()
        kept = await house.stored(came.sop_instance_uid)
        assert verified(await house.file_of(kept), trusting(authority))
        assert (await house.row()).state is CompressionState.DONE


async def test_a_signature_that_came_stays_beside_ours(
    tmp_path: Path, pool: CodecPool, authority: Issued, who: Issued
) -> None:
    modality = issue("Modality", by=authority)
    raw = signed_file((DATA / "MR_small.dcm").read_bytes(), modality)
    async with opened(tmp_path, {"sign": True}) as house:
        came = await house.receive(pydicom.dcmread(io.BytesIO(raw)))
        await worker(house, pool, signer(who)).compress_due()
        kept = await house.stored(came.sop_instance_uid)
        found = verified(await house.file_of(kept), trusting(authority))
        assert [one.state for one in found] == [SignatureState.VALID] * 2


async def test_what_is_sent_again_is_known(tmp_path: Path, pool: CodecPool, who: Issued) -> None:
    async with opened(tmp_path, {"sign": True}) as house:
        image = an_image()
        came = await house.receive(image)
        await worker(house, pool, signer(who)).compress_due()
        kept = await house.stored(came.sop_instance_uid)
        assert await house.receive(image) == kept
        assert house.result.outcome is StoreOutcome.ALREADY_STORED
        await house.keeps_only(kept)


async def test_what_does_not_have_what_the_profile_wants_stays_as_it_came(
    tmp_path: Path, pool: CodecPool, who: Issued
) -> None:
    async with opened(tmp_path, {"sign": True}) as house:
        told = listening(house)
        came = await house.receive(an_image())
        await worker(house, pool, signer(who, profile=Profile.SR)).compress_due()
        assert await house.stored(came.sop_instance_uid) == came
        row = await house.row()
        assert (row.state, row.signs) == (CompressionState.KEPT, True)
        assert "not signed: " in row.last_fault
        assert not told
        assert await house.keys() == [came.object_key]


async def still_due(house: House, came: StoredInstance, fault: str) -> None:
    assert await house.stored(came.sop_instance_uid) == came
    row = await house.row()
    assert (row.state, row.attempts) == (CompressionState.DUE, 1)
    assert fault in row.last_fault


def no_key() -> Signer:
    raise SignatureError("sign.key: No such file or directory")


@pytest.mark.parametrize(("sign", "fault"), [(no_key, "sign.key"), (None, "signatures.sign_key")])
async def test_a_key_that_is_away_is_waited_for(
    tmp_path: Path, pool: CodecPool, who: Issued, sign: Sign | None, fault: str
) -> None:
    async with opened(tmp_path, {"sign": True}) as house:
        came = await house.receive(an_image())
        await worker(house, pool, sign).compress_due()
        await still_due(house, came, fault)
        house.clock.now += 20.0
        await worker(house, pool, signer(who)).compress_due()
        assert (await house.stored(came.sop_instance_uid)).received_digest == came.digest


async def test_nothing_is_signed_by_a_certificate_that_has_ended(
    tmp_path: Path, pool: CodecPool, authority: Issued
) -> None:
    old = issue("Hospital", by=authority, ends=NOW - timedelta(days=1))
    async with opened(tmp_path, {"sign": True}) as house:
        came = await house.receive(an_image())
        await worker(house, pool, signer(old)).compress_due()
        await still_due(house, came, "signatures.sign_certificate is valid from")


async def test_what_reads_back_as_something_else_stays_as_it_came(
    tmp_path: Path,
    pool: CodecPool,
    who: Issued,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def changing(source: IO[bytes], target: IO[bytes], by: Signer) -> str:
        uid = sign_object(source, target, by)
        target.seek(0)
        raw = target.read().replace(b"TOSHIBA", b"tOSHIBA")
        target.seek(0)
        target.write(raw)
        target.flush()
        return uid

    monkeypatch.setattr("isocenter.services.workflow.compression.signing.sign_object", changing)
    async with opened(tmp_path, {"sign": True}) as house:
        came = await house.receive(from_file("MR_small.dcm"))
        with caplog.at_level(logging.ERROR, "isocenter.compression"):
            await worker(house, pool, signer(who)).compress_due()
        assert await house.stored(came.sop_instance_uid) == came
        assert (await house.row()).state is CompressionState.KEPT
        assert await house.keys() == [came.object_key]
    assert "more than a signature was added" in caplog.text
