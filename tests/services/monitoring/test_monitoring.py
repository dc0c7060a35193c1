"""Metrics and health of a real server, as a program that asks sees them."""

from __future__ import annotations

import inspect
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread

from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.pdu import encode_associate_request
from isocenter.services.monitoring.figures_access import may_see_figures
from isocenter.services.monitoring.metric_table import KEPT, METRICS, Counter
from isocenter.services.monitoring.metrics import Metrics
from isocenter.services.net.addresses import is_loopback
from isocenter.services.net.http.exchange import Message
from isocenter.services.net.http.messages import Request
from isocenter.services.notices import CommitmentDone
from support.processes import ServedArchive, isocenter_command, run, served_archive, wait_until
from support.raw import associate_request, message_bytes
from support.studies import CT_IMAGE_STORAGE, write_studies

PACKAGING = Path(__file__).parents[3] / "packaging"
DASHBOARD = PACKAGING / "grafana" / "isocenter.json"
ALERTS = PACKAGING / "prometheus" / "isocenter-alerts.yml"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    with served_archive(tmp_path_factory.mktemp("monitored"), tls=True) as served:
        yield served


def address_of(archive: ServedArchive) -> str:
    found = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", archive.log.read_text("utf-8"))
    assert found is not None
    return found[1]


def get(url: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def numbers(archive: ServedArchive) -> Numbers:
    status, page = get(address_of(archive) + "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def changed(before: Numbers, after: Numbers) -> dict[str, float]:
    """What grew, without histograms' buckets, what is measured in seconds, the database's and
    the audit trail's."""
    grown = {}
    for key, value in after.items():
        name, labels = key
        if value != before.get(key, 0.0) and name.endswith(("_total", "_count")):
            if name.startswith(("process", "python", "isocenter_database", "isocenter_audit")):
                continue
            shown = ",".join(text for _, text in labels)
            grown[f"{name.removeprefix('isocenter_')}[{shown}]"] = value - before.get(key, 0.0)
    return grown


def test_what_was_done_is_what_is_counted(archive: ServedArchive, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=3)
    address = f"ISOCENTER@127.0.0.1:{archive.port}"
    before = numbers(archive)
    assert isocenter_command("storescu", address, *files).returncode == 0
    assert isocenter_command("storescu", address, files[0]).returncode == 0
    found = isocenter_command("findscu", address, "-k", "PatientID=P1", "-k", "StudyInstanceUID")
    assert found.returncode == 0, found.stdout
    run("echoscu", "-aec", "NOBODY", "127.0.0.1", archive.port)
    with socket.create_connection(("127.0.0.1", archive.port), PATIENCE) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    grown = changed(before, numbers(archive))
    received = grown.pop("received_bytes_total[]")
    assert received > sum(path.stat().st_size for path in files)
    assert grown.pop("sent_bytes_total[]") > 0
    assert grown.pop("stored_bytes_total[]") > 3 * 1_000
    assert 1 <= grown.pop("commit_batch_objects_count[]") <= 4
    assert 1 <= grown.pop("commit_duration_seconds_count[]") <= 4
    assert grown == {
        "associations_established_total[]": 3,
        "associations_rejected_total[7,1]": 1,
        "associations_ended_total[released]": 3,
        "association_duration_seconds_count[]": 3,
        "connections_refused_total[wrong_protocol]": 1,
        "operations_total[C-STORE,scp,success]": 4,
        "operations_total[C-FIND,scp,success]": 1,
        "operation_duration_seconds_count[C-STORE,scp,success]": 4,
        "operation_duration_seconds_count[C-FIND,scp,success]": 1,
        "instances_stored_total[stored]": 3,
        "instances_stored_total[already stored]": 1,
        "queries_total[answered]": 1,
        "query_matches_total[]": 1,
    }


def test_no_label_holds_what_a_stranger_says(archive: ServedArchive, tmp_path: Path) -> None:
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    port = archive.port
    run("echoscu", "-aet", "STRANGER1", "-aec", "NOWHERE2", "127.0.0.1", port)
    run("storescu", "-aet", "STRANGER3", "-aec", "ISOCENTER", "127.0.0.1", port, file)
    run("movescu", "-S", "-aet", "STRANGER4", "-aec", "ISOCENTER", "-aem", "NOWHERE5",
        "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3", "127.0.0.1", port)  # fmt: skip
    status, page = get(address_of(archive) + "/metrics")
    assert status == 200
    assert b'command="C-MOVE"' in page
    uids = [str(dcmread(file)[tag].value) for tag in ("SOPInstanceUID", "StudyInstanceUID")]
    for word in ("STRANGER", "NOWHERE", "127.0.0.1", *uids):
        assert word.encode() not in page, word


def test_what_is_now_is_seen(archive: ServedArchive) -> None:
    values = numbers(archive)
    assert values["isocenter_associations_active", ()] == 0
    assert values["isocenter_queries_active", ()] == 0
    assert values["isocenter_memory_budget_taken_bytes", ()] == 0
    assert values["isocenter_memory_budget_limit_bytes", ()] > 0
    assert values["isocenter_limit", (("name", "associations"),)] == 1_000
    bounds = {dict(labels)["name"] for name, labels in values if name == "isocenter_limit"}
    assert {
        "handshakes",
        "nesting",
        "query_results",
        "suboperations",
        "backlog",
        "hl7_connections",
    } <= bounds
    assert values["process_open_fds", ()] > 0
    ends = [value for (name, _), value in values.items() if "certificate_expiry" in name]
    assert len(ends) >= 2
    assert all(value > 1_700_000_000 for value in ends)


def test_a_handshake_that_is_under_way_is_seen(archive: ServedArchive) -> None:
    assert archive.tls_port is not None
    name = "isocenter_handshakes_active", ()
    assert numbers(archive)[name] == 0

    def is_seen() -> bool:
        with socket.create_connection(("127.0.0.1", archive.tls_port)) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x10")
            until = time.monotonic() + 4  # it may take five
            while not (found := numbers(archive)[name]) and time.monotonic() < until:
                pass
        return found == 1

    assert any(is_seen() for _ in range(5))


def test_health(archive: ServedArchive) -> None:
    address = address_of(archive)
    assert get(address + "/health/live") == (200, b'{"status":"alive"}\n')
    status, ready = get(address + "/health/ready")
    assert (status, json.loads(ready)["status"]) == (200, "healthy")
    status, whole = get(address + "/health")
    told = json.loads(whole)
    assert status == 200
    assert told["database"]["connected"]
    assert told["storage"]["writable"]
    assert told["storage"]["available_bytes"] > 0
    assert told["associations"]["max"] == 1_000


def test_metrics_under_the_names_of_others_and_as_json(archive: ServedArchive) -> None:
    assert run("echoscu", "-aec", "ISOCENTER", "127.0.0.1", archive.port).returncode == 0
    address = address_of(archive)
    status, page = get(f"{address}/metrics?names=pacs")
    assert status == 200
    found = {
        sample.name: (sample.value, sample.labels)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }
    echoes, _ = found["pacs_dimse_c_echo_total"]
    assert echoes >= 1
    assert found["pacs_dimse_c_echo_success_total"][0] == echoes
    assert found["dicom_c_echo_requests_total"][0] == echoes
    assert found["pacs_dimse_c_echo_duration_microseconds_sum"][0] > 0
    assert found["pacs_associations_established_total"][0] >= 1
    assert found["dicom_associations_total"][1] == {"ae": "ISOCENTER"}
    assert found["pacs_bytes_received_total"][0] > 0
    assert found["pacs_dimse_c_echo_duration_microseconds_max"][0] > 0
    assert found["pacs_db_connections"][0] > 0
    assert found["dicom_transfer_rate_mbps"][0] >= 0
    assert page.count(b"# TYPE pacs_db_queries_total") == 1
    (done,) = re.findall(rb'pacs_db_queries_total\{status="success"\} ([0-9.]+)', page)
    assert float(done) > 0
    assert b'pacs_db_queries_total{status="error"} 0\n' in page
    status, page = get(f"{address}/metrics?format=json")
    values = {one["name"]: one for one in json.loads(page)}
    assert values["isocenter_operations"]["kind"] == "counter"
    assert any(
        sample["labels"].get("command") == "C-ECHO" and sample["value"] >= 1
        for sample in values["isocenter_operations"]["samples"]
    )
    for wrong in ("names=other", "format=xml", "names=pacs&format=json", "x"):
        assert get(f"{address}/metrics?{wrong}")[0] == 400


def test_transactions_and_commitments_are_counted() -> None:
    metrics = Metrics(version="1")
    metrics.transaction("add", 0.5, False)
    metrics.transaction("add", 0.25, True)
    metrics.on_notice(
        CommitmentDone(requester="CT1", transaction_uid="1.2", committed=("1", "2"), failed=("3",))
    )
    sample = metrics.registry.get_sample_value
    for outcome in ("done", "failed"):
        assert sample("isocenter_database_transactions_total", {"outcome": outcome}) == 1
    assert sample("isocenter_database_transaction_duration_seconds_sum") == 0.75
    counts = {
        outcome: sample("isocenter_committed_instances_total", {"outcome": outcome})
        for outcome in ("committed", "failed")
    }
    assert counts == {"committed": 2, "failed": 1}


PATHS = ("/metrics", "/health", "/health/ready", "/health/live", "/ready", "/live")


def statuses(address: str, **headers: str) -> dict[str, int]:
    return {path: get(address + path, **headers)[0] for path in PATHS}


OPEN = dict.fromkeys(PATHS, 200)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:11180", "[::1]:1", "[::1]"])
def test_figures_are_for_programs_on_this_machine(archive: ServedArchive, host: str) -> None:
    assert statuses(address_of(archive), Host=host) == OPEN


@pytest.mark.parametrize("host", ["evil.example", "evil.example:11180", "10.0.0.7"])
def test_who_comes_by_another_name_gets_the_state_only(archive: ServedArchive, host: str) -> None:
    """A page in a browser of this machine whose name leads to 127.0.0.1; or a proxy."""
    assert statuses(address_of(archive), Host=host) == OPEN | {"/metrics": 403}
    status, body = get(address_of(archive) + "/health", Host=host)
    assert (status, json.loads(body)) == (200, {"status": "healthy"})
    refusal = get(address_of(archive) + "/metrics", Host=host)[1]
    assert b"monitoring.token_file" in refusal


@pytest.mark.parametrize("host", ["", "::", "[", "a b", "localhost@evil.example"])
def test_a_host_that_can_be_none_is_no_request(archive: ServedArchive, host: str) -> None:
    assert set(statuses(address_of(archive), Host=host).values()) == {400}


def test_with_a_token_figures_are_for_those_who_have_it(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token-of-ours\n", "ascii")
    config = tmp_path / "c.toml"
    config.write_text('[monitoring]\ntoken_file = "token"\n', "utf-8")
    options = ("--data-dir", tmp_path / "d", "--no-tls", "--port", 0, "--config", config)
    token.chmod(0o644)
    refused = isocenter_command("serve", *options)
    assert refused.returncode == 2
    assert f"{token} is open to others; chmod 600 {token}" in refused.stdout
    token.chmod(0o600)
    for wrong in ("short", "with space in it, and long"):
        token.write_text(wrong, "ascii")
        refused = isocenter_command("serve", *options, "--check-config")
        assert (refused.returncode, "holds no token" in refused.stdout) == (2, True)
    token.write_text("s3cret-token-of-ours\n", "ascii")
    with served_archive(tmp_path, "--config", config) as archive:
        address = address_of(archive)
        for wrong in (
            "",
            "Bearer",
            "Bearer s3cret",
            "Basic s3cret-token-of-ours",
            "Bearer s3cret-token-of-ourss",
        ):
            assert statuses(address, Authorization=wrong) == OPEN | {"/metrics": 401}
            assert json.loads(get(address + "/health", Authorization=wrong)[1]) == {
                "status": "healthy"
            }
        right = {"Authorization": "bearer s3cret-token-of-ours", "Host": "archive.example"}
        assert statuses(address, **right) == OPEN
        assert "database" in json.loads(get(address + "/health", **right)[1])


async def test_a_stranger_gets_the_state_only() -> None:
    def request(address: str) -> Request:
        async def receive() -> Message:
            raise AssertionError("there is no body")

        scope = {
            "method": "GET",
            "raw_path": b"/metrics",
            "headers": [],
            "client": (address, 1),
            "isocenter.authority": "localhost",
        }
        return Request(scope, receive)

    assert may_see_figures(request("127.0.0.1"), b"")
    assert not may_see_figures(request("10.0.0.7"), b"")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.7.6", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("fe80::1%eth0", False),
    ],
)
def test_what_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"garbage\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_not_understood_is_answered(
    archive: ServedArchive, said: bytes, answer: bytes
) -> None:
    port = int(address_of(archive).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(said)
        assert sock.recv(100).split(b" ")[1] == answer


def test_callers_who_say_nothing_harm_neither_each_other_for_ever_nor_dicom(
    archive: ServedArchive,
) -> None:
    port = int(address_of(archive).rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(40):
            silent = socket.create_connection(("127.0.0.1", port), PATIENCE)
            stack.enter_context(silent)
            silent.sendall(b"GET /metrics")
        assert run("echoscu", "-aec", "ISOCENTER", "127.0.0.1", archive.port).returncode == 0
    assert get(address_of(archive) + "/health/live")[0] == 200


def test_several_requests_on_one_connection(archive: ServedArchive) -> None:
    port = int(address_of(archive).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        for method in (b"HEAD", b"GET", b"GET"):
            sock.sendall(method + b" /live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer or (method == b"GET" and b"alive" not in answer):
                answer += sock.recv(1_000)
            assert answer.startswith(b"HTTP/1.1 200")
            assert (b"alive" in answer) is (method == b"GET")


@pytest.mark.slow
def test_workers_count_together(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[limits]\nbytes_in_flight = 9000001\n", "utf-8")
    with served_archive(tmp_path, "--workers", "2", "--config", config) as archive:
        for _ in range(8):
            assert run("echoscu", "-aec", "ISOCENTER", "127.0.0.1", archive.port).returncode == 0
        for _ in range(4):  # whichever of them answers
            assert (
                numbers(archive)[
                    "isocenter_operations_total",
                    (("command", "C-ECHO"), ("role", "scp"), ("status", "success")),
                ]
                == 8
            )
        # What both may hold together is what is set: each process tells of itself within 5 s.
        until = time.monotonic() + PATIENCE
        while (values := numbers(archive))[
            "isocenter_memory_budget_limit_bytes", ()
        ] != 9_000_000 and time.monotonic() < until:
            pass
        assert values["isocenter_memory_budget_limit_bytes", ()] == 9_000_000
        assert values["isocenter_limit", (("name", "bytes_in_flight"),)] == 9_000_000
        assert values["isocenter_associations_active_peak", ()] == 1


def test_a_port_in_use_does_not_stop_the_archive(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with served_archive(tmp_path, "--monitoring-port", str(port)) as archive:
            assert run("echoscu", "-aec", "ISOCENTER", "127.0.0.1", archive.port).returncode == 0
            assert "no metrics" in archive.log.read_text("utf-8")


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with served_archive(tmp_path, "--no-monitoring") as archive:
        assert "/metrics" not in archive.log.read_text("utf-8")


def test_each_metric_of_the_table_is_counted_and_no_other() -> None:
    source = inspect.getsource(Metrics)
    counted = re.findall(r'_(?:of|metrics)[(\[]\s*"(\w+)"', source)
    counted += re.findall(r'_counted\([^,"]+, "(\w+)"', source)
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    # Those of what is kept are named by whoever measures it.
    assert {*counted, *(metric.name for metric in KEPT)} == set(names)


def test_the_alerts_use_only_what_there_is() -> None:
    metrics = Metrics(version="1")
    samples = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    labels = {
        f"isocenter_{each.name}" + ("_total" if isinstance(each, Counter) else ""): set(each.labels)
        for each in METRICS
    }
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) > 5
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
        used = re.findall(r"(isocenter_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert used or rule["expr"].startswith("up{")
        known: set[str] = {"instance"}
        for name, matchers in used:
            assert name in samples, rule["alert"]
            assert set(re.findall(r"(\w+)=", matchers)) <= labels[name], rule["alert"]
            known |= labels[name]
        shown = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        assert set(shown) <= known, rule["alert"]


def test_what_is_kept_and_the_disk_are_on_the_page(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", studies=2, series=1, instances=2)
    data = tmp_path / "data"
    assert isocenter_command("import", "-q", "--data-dir", data, tmp_path / "in").returncode == 0
    with served_archive(tmp_path) as archive:
        address = address_of(archive) + "/metrics"

        def figures() -> dict[str, float]:
            lines = get(address)[1].decode().splitlines()
            pairs = (line.split(" ") for line in lines if re.match(r"isocenter_\w+ \S+$", line))
            return {name.removeprefix("isocenter_"): float(value) for name, value in pairs}

        # The first look comes with the first page, or soon after it.
        wait_until(lambda: figures()["instances"] > 0, archive.process)
        found = figures()
        assert (found["studies"], found["series"], found["instances"]) == (2, 2, 4)
        assert found["instances_bytes"] > 4_000
        assert 0 < found["disk_free_bytes"] < found["disk_total_bytes"]
        assert found["audit_trail_bytes"] > 1_000


def test_every_name_follows_prometheus_rules_and_the_dashboard_uses_only_those() -> None:
    metrics = Metrics(version="1")
    families = list(metrics.registry.collect())
    for family in families:
        if not family.name.startswith("isocenter_"):
            continue
        assert re.fullmatch(r"isocenter_[a-z_]+", family.name)
        assert family.documentation
        assert not family.name.endswith("_total")  # which the page adds
        if "duration" in family.name or "timestamp" in family.name:
            assert family.name.endswith("_seconds")
    known = {family.name for family in families}
    used = set(re.findall(r"isocenter_[a-z_]+", DASHBOARD.read_text("utf-8")))
    assert len(used) > 10
    for name in used:
        stem = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert stem in known or name in known, name
    titles = [panel["title"] for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]]
    assert len(titles) == len(set(titles))


def test_a_stopping_server_is_not_ready(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[deadlines]\nshutdown = 15\n", "utf-8")
    with served_archive(tmp_path, "--config", config) as archive:
        address = address_of(archive)
        with socket.create_connection(("127.0.0.1", archive.port), PATIENCE) as sock:
            sock.sendall(encode_associate_request(associate_request(CT_IMAGE_STORAGE)))
            assert sock.recv(6)[0] == 2
            request = CStoreRequest(
                message_id=1,
                affected_sop_class_uid=CT_IMAGE_STORAGE,
                affected_sop_instance_uid="1.2.3",
            )
            # An operation that does not end holds the stop back.
            sock.sendall(message_bytes(1, request, bytes(100_000))[:60_000])
            archive.process.terminate()
            until = time.monotonic() + PATIENCE
            while True:
                status, body = get(address + "/health/ready")
                if status == 503 or time.monotonic() > until:
                    break
            assert (status, body) == (503, b'{"status":"stopping"}\n')
            assert get(address + "/health/live")[0] == 200
        archive.process.wait(PATIENCE)
