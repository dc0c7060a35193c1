"""What becomes of messages in the worklist, and what their senders are told."""

from __future__ import annotations

import logging
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.services.errors import StorageError
from isocenter.services.integration.hl7 import rejected_messages as rejected_module
from isocenter.services.integration.hl7.mllp import MessageTooLong, MllpMessage
from isocenter.services.integration.hl7.order_service import OrderService
from isocenter.services.integration.hl7.rejected_messages import RejectedMessages, name_of
from isocenter.services.integration.hl7.step_fields import OrderRules
from isocenter.services.net.peer_log import PeerLog
from isocenter.services.notices import (
    Notice,
    Notices,
    OrderAction,
    OrderChanged,
    OrderMessageAnswered,
)
from isocenter.services.service_classes.worklist.entry import EntryKey, EntryState
from isocenter.services.service_classes.worklist.ports import PutResult, StoredEntry, Worklist
from isocenter.storage.database.sqlite.database import SqliteDatabase, open_sqlite_database
from isocenter.storage.database.worklist import DatabaseWorklist
from services.integration.hl7.samples import OMI, ORM, changed, without

CT = EntryKey("SPS1", "A1001")
SENDER = "10.0.0.7:50000"


class Desk:
    """An intake with a worklist in a database, and what it told."""

    def __init__(self, worklist: DatabaseWorklist, folder: Path) -> None:
        self.worklist = worklist
        self.folder = folder
        self.notices: list[Notice] = []
        self.intake = OrderService(
            worklist,
            OrderRules(character_set="UNICODE UTF-8"),
            rejected=RejectedMessages(folder),
            notices=Notices(self.notices.append),
        )

    async def send(self, message: str | bytes) -> list[list[str]]:
        """The segments of the acknowledgement."""
        data = message.encode() if isinstance(message, str) else message
        answer = await self.intake.handle(MllpMessage(data), PeerLog(SENDER))
        assert answer is not None
        return [line.split("|") for line in answer.decode().rstrip("\r").split("\r")]

    async def code(self, message: str) -> str:
        return (await self.send(message))[1][1]

    async def state(self, key: EntryKey = CT) -> EntryState | None:
        stored = await self.worklist.get(key)
        return None if stored is None else stored.state

    def rejected(self) -> list[Path]:
        return sorted(self.folder.glob("*.hl7"))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_sqlite_database(":memory:") as database:
        yield Desk(DatabaseWorklist(database), tmp_path / "rejected")


async def test_an_order_is_on_the_list_when_it_is_acknowledged(desk: Desk) -> None:
    header, acknowledged = await desk.send(ORM)
    assert header[2:6] == ["ARCHIVE", "RADIOLOGY", "RIS", "HOSPITAL"]
    assert header[8] == "ACK^O01"
    assert header[10:12] == ["P", "2.3.1"]
    assert acknowledged == ["MSA", "AA", "MSG0001"]
    stored = await desk.worklist.get(CT)
    assert stored is not None
    assert (stored.source, stored.state) == ("hl7", EntryState.SCHEDULED)
    order, *answered = desk.notices
    assert isinstance(order, OrderChanged)
    assert (order.action, order.accession_number) == (OrderAction.ADDED, "A1001")
    assert order.caller.address == SENDER
    assert answered == [
        OrderMessageAnswered(address=SENDER, message_type="ORM^O01", acknowledgement="AA")
    ]
    assert not desk.rejected()


async def test_all_steps_of_a_message_or_none(desk: Desk) -> None:
    wrong = OMI.replace("SPS3|MR", "SPS3|mr")
    assert await desk.code(wrong) == "AE"
    assert not await desk.worklist.find_by_accession_number("A1002")
    assert await desk.code(OMI) == "AA"
    assert len(await desk.worklist.find_by_accession_number("A1002")) == 2


async def test_a_message_that_comes_again_changes_nothing(desk: Desk) -> None:
    assert await desk.code(ORM) == "AA"
    before = await desk.worklist.get(CT)
    assert await desk.code(ORM) == "AA"
    assert await desk.worklist.get(CT) == before
    cancel = changed(ORM, "ORC", 1, "CA")
    assert await desk.code(cancel) == await desk.code(cancel) == "AA"
    told = [notice.action for notice in desk.notices if isinstance(notice, OrderChanged)]
    assert told == [OrderAction.ADDED, OrderAction.REMOVED]


async def test_two_steps_of_one_key_are_refused(desk: Desk) -> None:
    _, msa, err = await desk.send(OMI.replace("SPS3", "SPS2"))
    assert msa[1] == "AE"
    assert err[3].startswith("205^")
    assert await desk.state(EntryKey("SPS2", "A1002")) is None


async def test_a_change_keeps_the_state(desk: Desk) -> None:
    await desk.send(ORM)
    await desk.worklist.set_state(CT, EntryState.STARTED)
    changed_order = changed(changed(ORM, "ORC", 1, "XO"), "PID", 5, "Muster^Eva")
    assert await desk.code(changed_order) == "AA"
    stored = await desk.worklist.get(CT)
    assert stored is not None
    assert stored.state is EntryState.STARTED
    assert stored.entry.text(0x00100010) == "Muster^Eva"
    assert await desk.code(changed(changed_order, "ORC", 5, "CM")) == "AA"
    assert await desk.state() is EntryState.COMPLETED


async def test_a_status_changes_the_state(desk: Desk) -> None:
    status = changed(ORM, "ORC", 1, "SC")
    _, msa, err = await desk.send(changed(status, "ORC", 5, "IP"))
    assert (msa[1], err) == ("AE", ["ERR", "ORC^1^^204&Unknown key identifier&HL70357"])
    await desk.send(ORM)
    for sent, state in (
        ("SC", EntryState.SCHEDULED), ("IP", EntryState.STARTED), ("SC", EntryState.STARTED),
        ("DC", EntryState.DISCONTINUED), ("CM", EntryState.COMPLETED),
    ):  # fmt: skip
        assert await desk.code(changed(status, "ORC", 5, sent)) == "AA"
        assert await desk.state() is state


@pytest.mark.parametrize("control", ["CA", "OC", "DC", "OD"])
async def test_a_cancel_takes_what_was_not_started(desk: Desk, control: str) -> None:
    await desk.send(ORM)
    await desk.send(OMI)
    assert await desk.code(changed(without(ORM, "PID"), "ORC", 1, control)) == "AA"
    assert await desk.state() is None
    first, second = EntryKey("SPS2", "A1002"), EntryKey("SPS3", "A1002")
    one_step = changed(OMI, "ORC", 1, control).rpartition("IPC|")[0]
    assert await desk.code(one_step) == "AA"
    assert (await desk.state(first), await desk.state(second)) == (None, EntryState.SCHEDULED)
    await desk.send(OMI)
    whole = without(changed(changed(OMI, "ORC", 1, control), "OBR", 18, "A1002"), "IPC")
    assert await desk.code(whole) == "AA"
    assert not await desk.worklist.find_by_accession_number("A1002")


async def test_a_cancel_of_what_was_started_is_refused(desk: Desk) -> None:
    await desk.send(OMI)
    first, second = EntryKey("SPS2", "A1002"), EntryKey("SPS3", "A1002")
    for state in (EntryState.STARTED, EntryState.COMPLETED):
        await desk.worklist.set_state(second, state)
        _, msa, err = await desk.send(changed(OMI, "ORC", 1, "CA"))
        assert msa[1] == "AE"
        assert f"a step is {state.value}" in msa[3]
        assert err[3].startswith("206^")
        assert (await desk.state(first), await desk.state(second)) == (
            EntryState.SCHEDULED, state,
        )  # fmt: skip


async def test_what_was_started_can_be_discontinued(desk: Desk) -> None:
    await desk.send(ORM)
    await desk.worklist.set_state(CT, EntryState.STARTED)
    discontinued = changed(ORM, "ORC", 1, "DC")
    for _ in range(2):
        assert await desk.code(discontinued) == "AA"
        assert await desk.state() is EntryState.DISCONTINUED


async def test_a_cancel_needs_to_say_of_what(desk: Desk) -> None:
    text = changed(changed(changed(ORM, "ORC", 1, "CA"), "ORC", 3, ""), "OBR", 3, "")
    for field in (18, 19, 20):
        text = changed(text, "OBR", field, "")
    _, msa, _ = await desk.send(text)
    assert msa[1] == "AE"
    assert msa[3].startswith("OBR-18: ")


async def test_an_order_is_cancelled_by_what_it_was_ordered_by(desk: Desk) -> None:
    order = changed(changed(ORM, "ORC", 3, ""), "OBR", 3, "")
    for field in (18, 20):
        order = changed(order, "OBR", field, "")
    key = EntryKey("RP1", "")
    assert await desk.code(order) == "AA"
    assert await desk.state(key) is EntryState.SCHEDULED
    assert await desk.code(changed(order, "ORC", 1, "CA")) == "AA"
    assert await desk.state(key) is None


class _Hasty(DatabaseWorklist):
    """A worklist in which modalities are quicker than orders, as often as *steps* has states."""

    def __init__(self, database: SqliteDatabase, steps: list[EntryState]) -> None:
        super().__init__(database)
        self.steps = steps

    async def find_by_accession_number(self, accession_number: str) -> Sequence[StoredEntry]:
        found = await super().find_by_accession_number(accession_number)
        return await self._meanwhile(found)

    async def get(self, key: EntryKey) -> StoredEntry | None:
        found = await super().get(key)
        await self._meanwhile([])
        return found

    async def _meanwhile(self, found: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
        if self.steps:
            await self.set_state(CT, self.steps.pop(0))
        return found


@pytest.mark.parametrize(
    ("control", "steps", "code", "state"),
    [
        # Begun while it was being cancelled: it may not leave the list.
        ("CA", ["STARTED"], "AE", "STARTED"),
        # Begun while it was being discontinued: it was discontinued then.
        ("DC", ["STARTED"], "AA", "DISCONTINUED"),
        # Completed while it was being discontinued: that is what it is.
        ("DC", ["STARTED", "COMPLETED"], "AE", "COMPLETED"),
        ("DC", ["STARTED", "SCHEDULED"] * 9, "AE", None),
    ],
)
async def test_a_step_that_changes_while_it_is_cancelled_is_looked_at_again(
    tmp_path: Path, control: str, steps: list[str], code: str, state: str | None
) -> None:
    async with open_sqlite_database(tmp_path / "index.db") as database:
        worklist = _Hasty(database, [])
        desk = Desk(worklist, tmp_path / "rejected")
        assert await desk.code(ORM) == "AA"
        worklist.steps = [EntryState(each) for each in steps]
        _, msa, *_ = await desk.send(changed(ORM, "ORC", 1, control))
        worklist.steps = []
        assert msa[1] == code, msa
        if state is not None:
            assert await desk.state() is EntryState(state)


async def test_a_fault_is_told_in_ERR_of_its_version(desk: Desk) -> None:
    _, msa, err = await desk.send(changed(ORM, "PID", 5, ""))
    assert msa[:3] == ["MSA", "AE", "MSG0001"]
    assert msa[3].startswith("PID-5: ")
    assert err == ["ERR", "PID^1^5^101&Required field missing&HL70357"]
    header, msa, err = await desk.send(changed(OMI, "IPC", 9, ""))
    assert header[8] == "ACK^O23^ACK"
    assert header[17] == "UNICODE UTF-8"
    assert err[1:5] == ["", "IPC^1^9", "101^Required field missing^HL70357", "E"]
    assert err[8].startswith("IPC-9: ")


async def test_MSA_3_is_withdrawn_in_2_7(desk: Desk) -> None:
    _, msa, err = await desk.send(changed(changed(OMI, "IPC", 9, ""), "MSH", 12, "2.8"))
    assert msa == ["MSA", "AE", "MSG0002"]
    assert err[8].startswith("IPC-9: ")


async def test_delimiters_in_our_words_are_escaped(desk: Desk) -> None:
    _, msa, _ = await desk.send(changed(ORM, "MSH", 9, "ADT^A01"))
    assert msa[1] == "AR"
    assert "ORM\\S\\O01" in msa[3]


async def test_what_cannot_be_read_is_rejected(desk: Desk) -> None:
    for data in (b"", b"GET / HTTP/1.1", "MSH|^~|\xff"):
        header, msa, err = await desk.send(data)
        assert header[8] == "ACK"
        assert msa[:3] == ["MSA", "AR", ""]
        assert err[3].startswith("100^")
    assert {
        notice.message_type for notice in desk.notices if isinstance(notice, OrderMessageAnswered)
    } == {"other"}


async def test_a_message_that_is_too_long_is_rejected(desk: Desk) -> None:
    answer = await desk.intake.handle(
        MessageTooLong(ORM.encode()[:300], 10_000_000), PeerLog(SENDER)
    )
    assert answer is not None
    assert b"MSA|AR|MSG0001|MSH: the message has 10000000 bytes" in answer


async def test_a_long_message_within_the_limit_is_done(desk: Desk) -> None:
    assert await desk.code(ORM + "NTE|1||" + "x" * 40_000 + "\r") == "AA"
    stored = await desk.worklist.get(CT)
    assert stored is not None
    assert len(stored.entry.text(0x00401400)) == 10_240


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", "AA", "AE"), ("NE", "AL", "AA", "AE"), ("AL", "AL", "AA", "AE"),
        ("AL", "NE", "CA", "CE"), ("AL", "", "CA", "CE"), ("ER", "NE", None, "CE"),
        ("SU", "NE", "CA", None), ("NE", "ER", None, "AE"), ("NE", "NE", None, None),
        ("AL", "ER", "CA", "AE"),
    ],
)  # fmt: skip
async def test_enhanced_mode(
    desk: Desk, accept: str, application: str, good: str | None, bad: str | None
) -> None:
    for text, code in ((ORM, good), (changed(ORM, "PID", 3, ""), bad)):
        message = changed(changed(text, "MSH", 15, accept), "MSH", 16, application)
        answer = await desk.intake.handle(MllpMessage(message.encode()), PeerLog(SENDER))
        assert (answer and answer.split(b"\rMSA|")[1][:2].decode()) == code
    assert await desk.state() is EntryState.SCHEDULED


class Broken:
    """A worklist on a disk that is full."""

    async def get(self, key: EntryKey) -> None:
        """There is none."""

    async def put(self, *_: object, **__: object) -> PutResult:
        raise StorageError("no space left")

    async def remove(self, keys: Sequence[EntryKey]) -> int:
        raise StorageError("no space left")

    async def find_by_accession_number(self, accession_number: str) -> Sequence[StoredEntry]:
        raise StorageError("no space left")


async def test_what_cannot_be_kept_is_to_be_sent_again(tmp_path: Path) -> None:
    folder = tmp_path / "rejected"
    worklist: Worklist = Broken()  # type: ignore[assignment]
    intake = OrderService(worklist, OrderRules(), rejected=RejectedMessages(folder))
    answer = await intake.handle(MllpMessage(ORM.encode()), PeerLog(SENDER))
    assert answer is not None
    assert b"MSA|AR|MSG0001|" in answer
    assert b"send it again later" in answer
    assert not folder.exists()


# -- Refused messages ------------------------------------------------------------------


async def test_refused_messages_are_kept_once_and_private(desk: Desk) -> None:
    wrong = changed(ORM, "PID", 5, "")
    for _ in range(3):
        assert await desk.code(wrong) == "AE"
    (path,) = desk.rejected()
    assert path.read_bytes() == wrong.encode()
    assert path.name.endswith(f"-{name_of(wrong.encode())}.hl7")
    note = path.with_suffix(".txt")
    assert note.read_text().startswith("AE PID-5: (0010,0010) is missing")
    assert stat.S_IMODE(desk.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, note)} == {0o600}


async def test_the_oldest_refused_messages_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected_module, "MOST_MESSAGES", 3)
    for number in range(5):
        await desk.send(f"wrong {number}")
    assert [path.read_text() for path in desk.rejected()] == ["wrong 2", "wrong 3", "wrong 4"]
    assert len(list(desk.folder.iterdir())) == 6
    monkeypatch.setattr(rejected_module, "MOST_BYTES", 15)
    await desk.send("wrong 5")
    assert [path.read_text() for path in desk.rejected()] == ["wrong 4", "wrong 5"]


async def test_a_reject_folder_that_cannot_be_written_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    async with open_sqlite_database(":memory:") as database:
        intake = OrderService(
            DatabaseWorklist(database), OrderRules(), rejected=RejectedMessages(taken / "in")
        )
        answer = await intake.handle(MllpMessage(b"wrong"), PeerLog(SENDER))
    assert answer is not None
    assert "a refused message is not kept" in caplog.text


async def test_no_patient_is_in_the_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "isocenter"):
        for text in (ORM, changed(ORM, "PID", 7, "31.1.1970"), changed(ORM, "MSH", 9, "Muster")):
            await desk.send(text)
    assert "PID-7" in caplog.text
    for secret in ("Muster", "Erika", "4711", "1970"):
        assert secret not in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(["MSH", "PID", "PV1", "AL1", "ORC", "TQ1", "OBR", "OBX", "IPC", "ZDS"]),
            st.integers(1, 46),
            st.text(alphabet='A1^~&\\|\r"Xäあ\x00\x1b.-+ ', max_size=12),
        ),
        max_size=4,
    ),
    is_omi=st.booleans(),
)
async def test_any_message_is_answered(
    tmp_path: Path, edits: list[tuple[str, int, str]], is_omi: bool
) -> None:
    message = OMI if is_omi else ORM
    for segment, field, text in edits:
        message = changed(message, segment, field, text)
    async with open_sqlite_database(":memory:") as database:
        intake = OrderService(DatabaseWorklist(database), OrderRules(character_set="UNICODE UTF-8"))
        answer = await intake.handle(MllpMessage(message.encode()), PeerLog(SENDER))
    asks = any(segment == "MSH" and field in (2, 15, 16) for segment, field, _ in edits)
    assert answer is not None or asks
