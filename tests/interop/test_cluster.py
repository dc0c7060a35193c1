"""Two nodes of one archive, on one PostgreSQL and one shared folder, with DCMTK."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from support.corpus import data_set_bytes
from support.postgresql import Server
from support.processes import (
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_until,
    workers_of,
)
from support.studies import instance, write_studies

pytestmark = [pytest.mark.interop("storescu", "findscu", "getscu"), pytest.mark.slow]


@dataclass
class Cluster:
    """Where nodes begin, and which run."""

    folder: Path
    options: list[str]

    @contextmanager
    def node(self, name: str, *more: str) -> Iterator[ServedArchive]:
        """Another node, for as long as the context lasts."""
        options = [*self.options, "--node", name, *more]
        # The balancer of a test needs no time to notice.
        notice = ("env", "ISOCENTER__CLUSTER__DRAIN_NOTICE=0.2")
        with served_archive(self.folder / name, *options, run_by=notice) as served:
            yield served


@pytest.fixture(scope="module")
def cluster(
    postgresql_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    name = postgresql_server.new_database()
    url = postgresql_server.url(name)
    yield Cluster(folder, ["--database", url, "--objects", f"file://{folder}/objects"])
    postgresql_server.give_back(name)


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[tuple[ServedArchive, ServedArchive]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(cluster.node("one")),
            stack.enter_context(cluster.node("two")),
        )


def write_study(folder: Path, number: int, *, instances: int) -> list[Path]:
    """Files of a study that no other test has."""
    folder.mkdir(parents=True)
    files = [folder / f"{each}.dcm" for each in range(1, instances + 1)]
    for each, path in enumerate(files, 1):
        instance(number, 1, each).save_as(path, enforce_file_format=True)
    return files


def store(node: ServedArchive, files: list[Path]) -> int:
    return run("storescu", "-aec", node.ae_title, "127.0.0.1", node.port, *files).returncode


def found_series(node: ServedArchive, study: str) -> int:
    found = run(
        "findscu", "-S", "-aec", node.ae_title, "127.0.0.1", node.port,
        "-k", "0008,0052=SERIES", "-k", f"0020,000D={study}", "-k", "0020,000E",
    )  # fmt: skip
    return found.stdout.count("Pending")


def check_they_come_back(node: ServedArchive, files: list[Path], folder: Path) -> None:
    """All of one study, byte for byte."""
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in files}
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    folder.mkdir()
    run(
        "getscu", "+B", "-S", "-aec", node.ae_title, "-od", folder, "127.0.0.1", node.port,
        "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}",
    )  # fmt: skip
    came = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in folder.iterdir()}
    assert came.keys() == sent.keys()
    for uid, path in came.items():
        assert data_set_bytes(path) == data_set_bytes(sent[uid])


def test_what_one_node_stored_the_other_gives_out_at_once(
    nodes: tuple[ServedArchive, ServedArchive], tmp_path: Path
) -> None:
    one, other = nodes
    files = write_studies(tmp_path / "in", studies=1, series=2, instances=3)
    assert store(one, files) == 0
    assert found_series(other, pydicom.dcmread(files[0]).StudyInstanceUID) == 2
    check_they_come_back(other, files, tmp_path / "out")


def test_a_name_is_refused_while_the_node_of_that_name_lives(
    nodes: tuple[ServedArchive, ServedArchive], cluster: Cluster, tmp_path: Path
) -> None:
    done = isocenter_command(
        "serve", "--data-dir", tmp_path / "data", "--port", "0", "--no-tls", *cluster.options,
        "--node", "one",
    )  # fmt: skip
    assert done.returncode == 2
    assert "another node has the name 'one', and lives" in done.stdout


def test_the_other_goes_on_when_one_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    files = write_study(tmp_path / "in", 7, instances=4)
    with cluster.node("first") as first, cluster.node("second") as second:
        assert store(first, files[:2]) == 0
        first.kill()
        assert store(second, files[2:]) == 0
        check_they_come_back(second, files, tmp_path / "out")
        # The name is free for whoever has the data directory, at once.
        with cluster.node("first") as again:
            check_they_come_back(again, files, tmp_path / "again")


def nodes_command(cluster: Cluster, *words: object) -> subprocess.CompletedProcess[str]:
    """`isocenter nodes`, of a data directory that is no node's."""
    return isocenter_command(
        "nodes", *words, "--data-dir", cluster.folder / "commands", *cluster.options
    )


def states(cluster: Cluster) -> dict[str, str]:
    done = nodes_command(cluster, "list", "--json")
    assert done.returncode == 0, done.stdout
    return {node["name"]: node["state"] for node in json.loads(done.stdout)}


def test_a_node_that_is_drained_finishes_what_it_does(cluster: Cluster, tmp_path: Path) -> None:
    # Of two processes one has nothing to wait for.
    with (
        cluster.node("leaving", "--workers", "2") as leaving,
        held_association(leaving.port) as association,
    ):
        assert states(cluster)["leaving"] == "up"
        done = nodes_command(cluster, "remove", "leaving")
        assert done.returncode == 1
        assert "lives" in done.stdout
        assert nodes_command(cluster, "drain", "leaving").returncode == 0
        assert states(cluster)["leaving"] == "draining"
        wait_until(lambda: not listens(leaving.port), leaving.process)
        wait_until(lambda: len(workers_of(leaving.process)) == 1, leaving.process)
        assert association.send_c_echo().Status == 0x0000
        # The node goes on, also if this process has not heard that it is to end before the other
        # had ended.
        assert states(cluster)["leaving"] == "draining"
        assert leaving.process.poll() is None
        association.release()
        assert leaving.process.wait(120) == 0
    assert states(cluster)["leaving"] == "stopped"
    assert nodes_command(cluster, "remove", "leaving").returncode == 0
    assert "leaving" not in states(cluster)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def held_association(port: int) -> Iterator[Association]:
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port, ae_title="ISOCENTER")
    assert association.is_established
    yield association
    if association.is_established:
        association.abort()


def test_who_is_admitted_on_one_node_is_admitted_on_all(
    postgresql_server: Server, tmp_path: Path
) -> None:
    # An archive of its own: the other tests want everybody to be admitted.
    url = postgresql_server.url(postgresql_server.new_database())
    cluster = Cluster(tmp_path, ["--database", url, "--objects", f"file://{tmp_path}/objects"])
    with cluster.node("here") as here, cluster.node("there") as there:
        done = isocenter_command("ae", "add", "CT1", "--data-dir", here.data_dir)
        assert done.returncode == 0, done.stdout
        policy = here.data_dir / "access" / "policy.json"
        copy = there.data_dir / "access" / "policy.json"
        wait_until(
            lambda: copy.exists() and copy.read_bytes() == policy.read_bytes(), there.process
        )
        assert "CT1" in isocenter_command("ae", "list", "--data-dir", there.data_dir).stdout
    # Before it takes its first association, a new node knows it, too.
    with cluster.node("new") as new:
        assert (new.data_dir / "access" / "policy.json").read_bytes() == policy.read_bytes()
