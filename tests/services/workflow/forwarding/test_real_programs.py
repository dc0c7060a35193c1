"""Rules in `isocenter serve`, with other people's programs on both sides, across `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydicom import dcmread
from pydicom.uid import JPEGLosslessSV1
from pynetdicom import AE, evt

from support.peers import orthanc
from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_port,
    wait_until,
)
from support.studies import CT_IMAGE_STORAGE, ROOT, write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

SECONDS = 120.0
PEER = '[[peers]]\nae_title = "{}"\nhost = "127.0.0.1"\nport = {}\n'
QUICK = "[forwarding]\nfirst_retry = 0.2\nlongest_retry = 1.0\n"


def configuration(folder: Path, *parts: str) -> Path:
    path = folder / "isocenter.toml"
    path.write_text("\n".join(parts))
    return path


def send(archive: ServedArchive, *files: object) -> None:
    done = run("storescu", "-aec", "ISOCENTER", "127.0.0.1", archive.port, *files)
    assert done.returncode == 0, done.stdout


def queue(archive: ServedArchive, *arguments: object) -> subprocess.CompletedProcess[str]:
    action, *rest = arguments
    return isocenter_command("queue", action, "--data-dir", archive.data_dir, *rest)


def records(archive: ServedArchive, *arguments: object) -> list[dict[str, Any]]:
    done = queue(archive, "list", "--json", "--limit", 1000, *arguments)
    assert done.returncode == 0, done.stdout
    found: list[dict[str, Any]] = orjson.loads(done.stdout)
    return found


def states(archive: ServedArchive) -> Counter[str]:
    return Counter(record["state"] for record in records(archive))


class Receiver:
    """pynetdicom as storage SCP; what comes, and what it answers."""

    def __init__(self, *script: int) -> None:
        self.script = script
        self.received: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.callers: set[str] = set()
        self.lock = threading.Lock()
        #: How many have come, and what is done then.
        self.at = 0
        self.act: Callable[[], None] = lambda: None

    def take(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self.lock:
            number = self.asked[uid]
            self.asked[uid] += 1
            self.callers.add(event.assoc.requestor.ae_title)
            if number < len(self.script):
                return self.script[number]
            self.received[uid] += 1
            if self.received.total() == self.at:
                self.act()
        return 0x0000


@contextmanager
def listening(receiver: Receiver, port: int, ae_title: str = "PACS") -> Iterator[None]:
    entity = AE(ae_title)
    entity.add_supported_context(CT_IMAGE_STORAGE)
    entity.maximum_associations = 50
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver.take)]
    )
    try:
        yield
    finally:
        server.shutdown()


def uids(*numbers: int) -> set[str]:
    return {f"{ROOT}.1.1.{number}" for number in numbers}


def test_dcmtk_and_orthanc_get_what_the_rules_say(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in")
    scp_port, orthanc_port, received = free_port(), free_port(), tmp_path / "received"
    received.mkdir()
    config = configuration(
        tmp_path,
        PEER.format("DCMTK", scp_port),
        PEER.format("ORTHANC", orthanc_port),
        QUICK,
        '[[rules]]\nname = "one"\nwhen = { study_description = "study 1" }\narea = "first"\n'
        'forward = ["DCMTK", "ORTHANC"]\n',
        '[[rules]]\nname = "all"\nwhen = { calling_ae = "STORE*" }\nforward = ["ORTHANC"]\n',
    )
    with (
        orthanc(tmp_path / "orthanc", modalities={}, dicom_port=orthanc_port) as other,
        served_archive(tmp_path / "ours", "--config", config) as archive,
    ):
        send(archive, *files)
        wait_until(lambda: len(other.get("/instances")) == 8, archive.process)
        # Nobody listens yet; then somebody does.
        assert states(archive)["due"] == 4
        log = tmp_path / "storescp.log"
        words = ("storescp", "-aet", "DCMTK", "-od", received, scp_port)
        with program(*words, log=log) as scp:
            wait_for_port(scp, scp_port, log)
            wait_until(lambda: states(archive)["done"] == 12, archive.process)
        lying = {
            path.relative_to(archive.data_dir / "objects").parts[0] for path in archive.objects()
        }
        verified = isocenter_command("db", "verify", "--data-dir", archive.data_dir)
        assert verified.returncode == 0, verified.stdout
    assert lying == {"first", f"{ROOT}.2"}
    got = {str(dcmread(path).SOPInstanceUID) for path in received.iterdir()}
    assert got == {f"{ROOT}.1.{series}.{number}" for series in (1, 2) for number in (1, 2)}


def test_what_is_sent_is_changed_and_transcoded_and_what_is_kept_is_not(tmp_path: Path) -> None:
    """Orthanc takes every transfer syntax, one storescp JPEG lossless, the other none."""
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=2)
    before = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in files}
    ports = {name: free_port() for name in ("LOSSLESS", "PLAIN", "ORTHANC")}
    config = configuration(
        tmp_path,
        *(PEER.format(name, port) for name, port in ports.items()),
        QUICK,
        '[[rules]]\nname = "changed"\nforward = ["LOSSLESS", "PLAIN", "ORTHANC"]\n'
        'forward_syntax = "jpeg-lossless"\nforward_coerce = [\n'
        '  { set = "InstitutionName", value = "Klinikum Nord" },\n'
        '  { remove = "PatientName" },\n]\n',
    )
    received = {name: tmp_path / name for name in ("LOSSLESS", "PLAIN")}
    with ExitStack() as stack:
        for name, folder in received.items():
            folder.mkdir()
            log = tmp_path / f"{name}.log"
            takes = ("+xs",) if name == "LOSSLESS" else ("+x=",)
            words = ("storescp", "-aet", name, *takes, "-od", folder, ports[name])
            wait_for_port(stack.enter_context(program(*words, log=log)), ports[name], log)
        other = stack.enter_context(
            orthanc(tmp_path / "orthanc", modalities={}, dicom_port=ports["ORTHANC"])
        )
        archive = stack.enter_context(served_archive(tmp_path / "ours", "--config", config))
        send(archive, *files)
        wait_until(lambda: states(archive) == {"done": 6}, archive.process)
        kept = [dcmread(path) for path in archive.objects()]
        instances = other.get("/instances")
        tags = [other.get(f"/instances/{one}/simplified-tags") for one in instances]
        syntaxes = {
            other.get_bytes(f"/instances/{one}/metadata/TransferSyntax").decode()
            for one in instances
        }
    for one in kept:
        assert one.PatientName == before[one.SOPInstanceUID].PatientName
        assert one.PixelData == before[one.SOPInstanceUID].PixelData
    for name, folder in received.items():
        paths = list(folder.iterdir())
        assert len(paths) == 2
        for path in paths:
            if name == "LOSSLESS":
                assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
                done = run("dcmdjpeg", path, path)
                assert done.returncode == 0, done.stdout
            got = dcmread(path)
            was = before[got.SOPInstanceUID]
            assert not got.file_meta.TransferSyntaxUID.is_compressed
            assert got.PixelData == was.PixelData
            assert got.InstitutionName == "Klinikum Nord"
            assert "PatientName" not in got
            modified = got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
            assert modified.PatientName == was.PatientName
    assert syntaxes == {JPEGLosslessSV1}
    assert {tag["InstitutionName"] for tag in tags} == {"Klinikum Nord"}
    assert not any(tag.get("PatientName") for tag in tags)


def test_out_of_resources_and_then_success(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=3)
    port, receiver = free_port(), Receiver(0xA700, 0xA700)
    rule = '[[rules]]\nname = "all"\nforward = ["PACS"]\n'
    config = configuration(tmp_path, PEER.format("PACS", port), QUICK, rule)
    with (
        listening(receiver, port),
        served_archive(tmp_path / "ours", "--config", config) as archive,
    ):
        send(archive, *files)
        wait_until(lambda: set(receiver.received) == uids(1, 2, 3), archive.process)
        wait_until(lambda: states(archive) == {"done": 3}, archive.process)
    # What left is in the audit trail, with the peer that got it.
    shown = isocenter_command("audit", "show", "--data-dir", archive.data_dir, "--ae", "PACS")
    sent = [line for line in shown.stdout.splitlines() if "DICOM Instances Transferred" in line]
    assert any("PACS" in line and f"{ROOT}.1" in line for line in sent), shown.stdout
    assert set(receiver.asked.values()) == {3}
    assert set(receiver.received.values()) == {1}
    assert receiver.callers == {"ISOCENTER"}


def test_kill_9_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=50)
    port, receiver = free_port(), Receiver()
    rule = '[[rules]]\nname = "all"\nforward = ["PACS"]\n'
    config = configuration(tmp_path, PEER.format("PACS", port), QUICK, rule)
    with served_archive(tmp_path / "ours", "--config", config) as archive:
        send(archive, *files)
        with listening(receiver, port):
            receiver.at = 20
            receiver.act = lambda: os.kill(archive.process.pid, signal.SIGKILL)
            archive.process.wait(SECONDS)
            before = set(receiver.received)
    assert 20 <= len(before) < 50
    with (
        listening(receiver, port),
        served_archive(tmp_path / "ours", "--config", config) as archive,
    ):
        wait_until(lambda: states(archive) == {"done": 50}, archive.process)
    assert set(receiver.received) == uids(*range(1, 51))
    # What was answered and not yet written down came twice, and no more.
    assert receiver.received.total() < 50 + 20


def test_two_workers_share_the_queue(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=60)
    port, receiver = free_port(), Receiver()
    rule = '[[rules]]\nname = "all"\nforward = ["PACS"]\n'
    config = configuration(tmp_path, PEER.format("PACS", port), QUICK + "batch = 5\n", rule)
    with (
        listening(receiver, port),
        served_archive(tmp_path / "ours", "--config", config, "--workers", 2) as archive,
    ):
        for start in range(0, 60, 10):
            send(archive, *files[start : start + 10])
        wait_until(lambda: states(archive) == {"done": 60}, archive.process)
    assert receiver.received == dict.fromkeys(uids(*range(1, 61)), 1)


def test_orthanc_commits_what_then_leaves_the_archive(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in")
    ours, theirs = free_port(), free_port()
    config = configuration(
        tmp_path,
        PEER.format("ORTHANC", theirs),
        QUICK,
        '[[rules]]\nname = "away"\nforward = ["ORTHANC"]\ncommit = true\ndelete_after = true\n',
        '[[rules]]\nname = "change"\nwhen = { calling_ae = "STORESCU" }\ncoerce = [\n'
        '  { set = "InstitutionName", value = "Süd" },\n'
        '  { map = "AccessionNumber", table = { A1 = "B1" } },\n]\n',
    )
    known = {"us": {"AET": "ISOCENTER", "Host": "127.0.0.1", "Port": ours}}
    options = ("--config", config, "--port", ours)
    with (
        orthanc(tmp_path / "orthanc", modalities=known, dicom_port=theirs) as other,
        served_archive(tmp_path / "ours", *options) as archive,
    ):
        sent = run("storescu", "-v", "-aec", "ISOCENTER", "127.0.0.1", ours, *files)
        assert sent.stdout.count("Warning: CoercionOfDataElements") == 8
        wait_until(lambda: states(archive) == {"done": 8}, archive.process)
        assert archive.objects() == []
        instances = other.get("/instances")
        assert len(instances) == 8
        tags = [other.get(f"/instances/{instance}/simplified-tags") for instance in instances]
    assert {tag["InstitutionName"] for tag in tags} == {"Süd"}
    assert {tag["AccessionNumber"] for tag in tags} == {"B1", "A2"}
    (original,) = tags[0]["OriginalAttributesSequence"]
    assert original["SourceOfPreviousValues"] == "STORESCU"


def test_a_report_on_the_association_that_asks(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in")
    port = free_port()
    rule = '[[rules]]\nname = "x"\nforward = ["PACS"]\ncommit = true\ndelete_after = true\n'
    # Storage commitment as SCP is off: the report is heard all the same.
    off = "[commitment]\nenabled = false\n"
    config = configuration(tmp_path, PEER.format("PACS", port), QUICK, rule, off)
    with (
        served_archive(tmp_path / "theirs", "--ae-title", "PACS", "--port", port) as other,
        served_archive(tmp_path / "ours", "--config", config) as archive,
    ):
        send(archive, *files)
        wait_until(lambda: states(archive) == {"done": 8}, archive.process)
        assert archive.objects() == []
        assert len(other.objects()) == 8
        asked = isocenter_command("commitments", "list", "--data-dir", other.data_dir)
        assert "success" in asked.stdout
        assert "delivered" in asked.stdout
        # A deletion is an audit message and an event.
        trail = ("--data-dir", archive.data_dir, "--event", "110105")
        wait_until(
            lambda: "DICOM Study Deleted" in isocenter_command("audit", "show", *trail).stdout,
            archive.process,
        )
        told = isocenter_command(
            "events", "tail", "--data-dir", archive.data_dir, "--json",
            "--kind", "instances.deleted",
        )  # fmt: skip
        assert "committed elsewhere" in told.stdout, told.stderr


def test_what_was_promised_to_a_modality_stays(tmp_path: Path) -> None:
    """Until it is set that the destination keeps it in our place."""
    files = write_studies(tmp_path / "in")
    port = free_port()
    rule = '[[rules]]\nname = "x"\nforward = ["PACS"]\ncommit = true\ndelete_after = true\n'
    config = configuration(tmp_path, PEER.format("PACS", port), QUICK, rule)
    with served_archive(tmp_path / "ours", "--config", config) as archive:
        send(archive, *files)
        asked = isocenter_command("commitscu", f"ISOCENTER@127.0.0.1:{archive.port}", *files)
        assert asked.returncode == 0, asked.stdout
        with served_archive(tmp_path / "theirs", "--ae-title", "PACS", "--port", port) as other:
            wait_until(lambda: states(archive) == {"failed": 8}, archive.process)
            assert len(other.objects()) == 8
        assert len(archive.objects()) == 8
        faults = {row["last_fault"] for row in records(archive)}
    assert faults == {"not deleted: this archive has promised COMMITSCU to keep it"}


def test_a_relay_that_is_killed_again_and_again_ends_empty(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=30)
    ours, theirs = free_port(), free_port()
    config = configuration(
        tmp_path,
        PEER.format("ORTHANC", theirs),
        QUICK + "commit_wait = 1.0\nbatch = 10\n",
        '[[rules]]\nname = "away"\nforward = ["ORTHANC"]\ncommit = true\ndelete_after = true\n',
    )
    known = {"us": {"AET": "ISOCENTER", "Host": "127.0.0.1", "Port": ours}}
    options = ("--config", config, "--port", ours)
    with served_archive(tmp_path / "ours", *options) as archive:
        send(archive, *files)
    with orthanc(tmp_path / "orthanc", modalities=known, dicom_port=theirs) as other:
        for count in (13, 16, 30, 30):
            with served_archive(tmp_path / "ours", *options) as archive:
                wait_until(
                    lambda count=count: len(other.get("/instances")) >= count, archive.process
                )
                archive.process.kill()
                archive.process.wait(SECONDS)
        with served_archive(tmp_path / "ours", *options) as archive:
            wait_until(lambda: states(archive) == {"done": 30}, archive.process)
            wait_until(lambda: not archive.objects(), archive.process)
        assert len(other.get("/instances")) == 30


def test_the_queue_can_be_looked_at_and_changed_while_the_server_runs(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=4)
    port, receiver = free_port(), Receiver()
    rule = '[[rules]]\nname = "all"\nforward = ["PACS"]\nforward_priority = "urgent"\n'
    slow = "[forwarding]\nfirst_retry = 3600\nlongest_retry = 3600\n"
    config = configuration(tmp_path, PEER.format("PACS", port), slow, rule)
    with served_archive(tmp_path / "ours", "--config", config) as archive:
        send(archive, *files)
        summary = queue(archive, "summary", "--json")
        (row,) = orjson.loads(summary.stdout)
        assert (row["destination"], row["counts"]["due"], row["failures"]) == ("PACS", 4, 1)
        assert "connection refused" in row["last_fault"]
        first = records(archive, "--state", "due", "--destination", "PACS")[-1]
        assert (first["rule"], first["priority"], first["attempts"]) == ("all", "urgent", 0)
        table = queue(archive, "list")
        assert first["sop_instance_uid"] in table.stdout
        assert "Müller" not in table.stdout
        assert queue(archive, "purge", "--state", "due").returncode == 2
        assert queue(archive, "retry", "--destination", "NOBODY").returncode == 1
        gone = queue(archive, "purge", "--state", "due", first["number"], "--yes")
        assert gone.returncode == 0, gone.stdout
        with listening(receiver, port):
            assert queue(archive, "retry", "--destination", "PACS").returncode == 0
            wait_until(lambda: states(archive) == {"done": 3}, archive.process)
        assert queue(archive, "purge", "--state", "done", "--yes").returncode == 0
        assert records(archive) == []
        assert len(archive.objects()) == 4
    assert set(receiver.received) == uids(2, 3, 4)


def test_rules_are_exchanged_while_the_server_runs(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=2)
    port, receiver = free_port(), Receiver()
    peer = PEER.format("PACS", port)
    config = configuration(tmp_path, peer, QUICK)
    with (
        listening(receiver, port),
        served_archive(tmp_path / "ours", "--config", config) as archive,
    ):
        send(archive, files[0])
        configuration(tmp_path, peer, QUICK, '[[rules]]\nname = "all"\nforward = ["PACS"]\n')
        done = isocenter_command("reload", "--data-dir", archive.data_dir, "--config", config)
        assert done.returncode == 0, done.stdout
        wait_until(lambda: "peers: read again" in archive.log.read_text(), archive.process)
        send(archive, files[1])
        wait_until(lambda: states(archive) == {"done": 1}, archive.process)
    assert set(receiver.received) == uids(2)


def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    config = configuration(
        tmp_path,
        PEER.format("PACS", 104),
        '[[rules]]\nname = "ct"\nwhen = { modality = "CT", calling_ae = "CT*" }\n'
        'forward = ["PACS"]\ndelay_minutes = 3\ncommit = true\narea = "ct"\n'
        'forward_syntax = "rle"\nforward_coerce = [{ remove = "StationName" }]\n',
        '[[rules]]\nname = "name"\ncoerce = [{ remove = "PatientName" }]\n',
    )
    words = ("rules", "test", "--config", config, "--data-dir", tmp_path / "none")
    done = isocenter_command(*words, "--calling-ae", "CT1", file)
    assert done.returncode == 0, done.stdout
    for text in (
        "ct, name",
        "area      ct",
        "to PACS",
        "after 3 minutes",
        "remove",
        "0010,0010",
        "remove (0008,1010) there",
        "in rle where that is taken",
    ):
        assert text in done.stdout
    assert "Müller" not in done.stdout
    other = orjson.loads(isocenter_command(*words, "--json", file.parent).stdout)
    assert [(each["rules"], each["forward"]) for each in other] == [(["name"], [])]
    (tmp_path / "no.dcm").write_text("no")
    assert isocenter_command(*words, tmp_path / "no.dcm").returncode == 1
    nowhere = ("--data-dir", tmp_path / "none")
    assert "ct" in isocenter_command("rules", "list", "--config", config, *nowhere).stdout
    assert isocenter_command("rules", "list", *nowhere).returncode == 2


def test_a_dry_run_says_what_would_be_refused(tmp_path: Path) -> None:
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    plain = dcmread(file)
    plain.SpecificCharacterSet, plain.PatientName = None, "DOE"
    plain.save_as(tmp_path / "plain.dcm")
    edit = '[[rules]]\nname = "x"\ncoerce = [{ set = "InstitutionName", value = "Süd" }]\n'
    config = configuration(tmp_path, edit)
    words = ("rules", "test", "--config", config, "--data-dir", tmp_path / "none")
    done = isocenter_command(*words, tmp_path / "plain.dcm")
    assert done.returncode == 1
    assert "would be refused with C000H" in done.stdout
    assert "(0008,0080)" in done.stdout


def test_what_dcmtk_has_signed_is_changed_only_where_it_is_not_signed(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=2)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    now = datetime.now(UTC)
    issued = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key.write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate.write_bytes(issued.public_bytes(pem))
    parts, whole = tmp_path / "parts.dcm", tmp_path / "whole.dcm"
    some = ("-t", "0010,0010", "-t", "0008,0018")
    for options, file, out in ((some, files[0], parts), ((), files[1], whole)):
        done = run("dcmsign", "--sign", key, certificate, *options, file, out)
        assert done.returncode == 0, done.stdout
    rule = '[[rules]]\nname = "x"\ncoerce = [{ set = "PatientID", value = "OTHER" }]\n'
    config = configuration(tmp_path, rule)
    with served_archive(tmp_path / "ours", "--config", config) as archive:
        for file, answer in ((parts, "0xb000"), (whole, "0xc000")):
            done = run("storescu", "-d", "-aec", "ISOCENTER", "127.0.0.1", archive.port, file)
            assert answer in done.stdout.lower()
        (kept,) = archive.objects()
        assert "a digital signature covers (0010,0020)" in archive.log.read_text()
    done = run("dcmsign", "-v", "--verify", kept)
    # Nobody knows the signer.
    assert "signature is OK but certificate verification failed: self-signed" in done.stdout
    assert dcmread(kept).PatientID == "OTHER"
