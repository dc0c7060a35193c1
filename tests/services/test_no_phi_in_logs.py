"""Nothing about a patient in the log: a day of stores, questions, moves and faults, and a grep.

At debug level, where the most is written; whoever reads logs is not always whoever may read
pictures.
"""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pytest
from pydicom import dcmread

from isocenter.engine.dimse.message_codec import CFindRequest, CStoreRequest
from isocenter.engine.pdu import encode_associate_request
from isocenter.services.dicom import uid_registry as sop_classes
from support.patients import Watch
from support.ports import free_port
from support.processes import (
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_port,
)
from support.raw import associate_request, message_bytes
from support.studies import CT_IMAGE_STORAGE, instance, write_studies

#: Whatever could be a patient's, in the data of this test and in nothing else.
FAMILY, GIVEN, PATIENT_ID, BIRTH_DATE = "Quixotebaum", "Zenobia", "PHI-4711-0815", "19310704"
ACCESSION, PHYSICIAN, DESCRIPTION = "ACCPHI99", "Umbrellaschmidt", "Toe of the patient"
SECRETS = (FAMILY, GIVEN, PATIENT_ID, BIRTH_DATE, ACCESSION, PHYSICIAN, DESCRIPTION)
PATIENCE = 60.0


def write(folder: Path) -> list[Path]:
    files = write_studies(folder, studies=1, series=1, instances=4)
    for path in files:
        item = dcmread(path)
        item.PatientName, item.PatientID = f"{FAMILY}^{GIVEN}", PATIENT_ID
        item.PatientBirthDate, item.AccessionNumber = BIRTH_DATE, ACCESSION
        item.ReferringPhysicianName, item.StudyDescription = f"{PHYSICIAN}^X", DESCRIPTION
        item.save_as(path)
    broken = folder / "broken.dcm"
    item = instance(9, 9, 9, patient=PATIENT_ID)
    item.PatientName = f"{FAMILY}^{GIVEN}"
    del item.StudyInstanceUID
    item.save_as(broken, enforce_file_format=True)
    return [*files, broken]


def say(port: int, *messages: bytes) -> None:
    """Raw bytes after an association, and a cut."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        request = associate_request(CT_IMAGE_STORAGE, sop_classes.STUDY_ROOT_FIND)
        sock.sendall(encode_associate_request(request))
        assert sock.recv(1) == b"\x02"
        for message in messages:
            sock.sendall(message)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(10_000):
            pass


@pytest.mark.slow
@pytest.mark.interop("storescp", "findscu", "movescu", "getscu")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_day_in_the_log_names_no_patient(tmp_path: Path, form: str) -> None:
    files = write(tmp_path / "in")
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    with (
        program("storescp", "-aet", "DEST", "-od", received, port, log=tmp_path / "scp") as scp,
        served_archive(
            tmp_path,
            *("--log-level", "debug", "--log-format", form),
            *("--peer", f"DEST@127.0.0.1:{port}"),
        ) as archive,
    ):
        wait_for_port(scp, port, tmp_path / "scp")
        there = ("127.0.0.1", archive.port)
        address = f"ISOCENTER@127.0.0.1:{archive.port}"
        isocenter_command("storescu", address, *files)
        isocenter_command("storescu", address, files[0])
        asked = (f"PatientName={FAMILY}*", f"PatientID={PATIENT_ID}", "StudyInstanceUID")
        keys = [word for key in asked for word in ("-k", key)]
        found = run("findscu", "-S", "-aec", "ISOCENTER", "-k", "QueryRetrieveLevel=STUDY",
                    *keys, *there)  # fmt: skip
        assert FAMILY in found.stdout
        wrong = ("-k", "QueryRetrieveLevel=NONSENSE", "-k", f"PatientID={PATIENT_ID}")
        run("findscu", "-S", "-aec", "ISOCENTER", *wrong, *there)
        study = str(dcmread(files[0]).StudyInstanceUID)
        wanted = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        for destination in ("DEST", "NOBODY"):
            run("movescu", "-S", "-aec", "ISOCENTER", "-aem", destination, *wanted, *there)
        run("getscu", "-S", "-aec", "ISOCENTER", "-od", received, *wanted, *there)
        # What cannot be understood, with the patient in it.
        content = files[0].read_bytes()
        store = CStoreRequest(
            message_id=1,
            affected_sop_class_uid=CT_IMAGE_STORAGE,
            affected_sop_instance_uid="1.2.3",
        )
        say(archive.port, message_bytes(1, store, content))
        say(archive.port, message_bytes(1, store, content[132:])[:2_000])
        name = f"{FAMILY}^{GIVEN}".encode()
        find = CFindRequest(message_id=1, affected_sop_class_uid=sop_classes.STUDY_ROOT_FIND)
        say(archive.port, message_bytes(3, find, b"\x10\x00\x10\x00PN\xff\xff" + name))
        say(archive.port, b"\x04\x00\x00\x00\x00\x40" + name, PATIENT_ID.encode())
        with socket.create_connection(there, PATIENCE) as sock:
            sock.sendall(name + PATIENT_ID.encode())
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1_000):
                pass
        isocenter_command("db", "verify", "--data-dir", archive.data_dir)
    log = archive.log.read_text("utf-8", "replace")
    # The grep would find something: the day is in there.
    assert study in log
    assert len(log.splitlines()) > 100
    for secret in SECRETS:
        assert secret not in log, [line for line in log.splitlines() if secret in line][:3]
        assert not re.search(secret.encode().hex(), log), secret
    # Each line of an association carries its name.
    lines = [line for line in log.splitlines() if "associated as" in line]
    assert lines
    assert all(re.search(r"\[[0-9a-f]{4}-[0-9a-f]+\]|\"association\":", line) for line in lines)


def test_what_all_tests_are_watched_for_would_be_seen() -> None:
    watch, logger = Watch(), logging.getLogger("isocenter.of.a.test")
    logger.addHandler(watch)
    logger.propagate = False
    logger.warning("stored an object of %s", "P1")
    assert watch.lines == []
    logger.warning("stored an object of %s", "Müller^Jörg")
    fault = "DOE^JANE has no birth date"
    try:
        raise ValueError(fault)
    except ValueError:
        logger.exception("it failed")
    assert watch.lines == [
        "WARNING isocenter.of.a.test: stored an object of Müller^Jörg",
        "ValueError: DOE^JANE has no birth date",
    ]
