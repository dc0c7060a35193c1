"""Our five clients against DCMTK's archive and receiver, in the clear and over mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest

from support.corpus import (
    as_we_send_it,
    by_uid,
    data_set_bytes,
    storable_files,
)
from support.five_commands import OurCommands
from support.peers import Site, dcmqrscp, tls_in_front_of
from support.ports import free_port
from support.processes import (
    isocenter_command,
    options_for_tls,
    program,
    wait_for_port,
)
from support.studies import write_studies

pytestmark = [
    pytest.mark.interop("dcmqrscp", "storescp", "socat"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mutual-tls"])
def ours(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OurCommands]:
    folder = tmp_path_factory.mktemp("dcmqrscp")
    site = Site(folder)
    move_port = free_port()
    with ExitStack() as stack:
        archive = stack.enter_context(
            dcmqrscp(folder / "archive", destinations={"MOVER": move_port})
        )
        port, security = archive.port, []
        if request.param:
            # dcmqrscp 3.6.7 speaks no TLS, and sends what is moved in the clear.
            port = stack.enter_context(tls_in_front_of(port, site.names("QRSCP"), folder))
            security = options_for_tls(site.names("MODALITY"), style="ours")
        commands = OurCommands(
            archive.ae_title, port, write_studies(folder / "sent"), move_port, security
        )
        commands.check_store()
        yield commands


def test_echo(ours: OurCommands) -> None:
    ours.check_echo()


def test_find(ours: OurCommands) -> None:
    ours.check_find()


def test_get(ours: OurCommands, tmp_path: Path) -> None:
    ours.check_get(tmp_path)


def test_move(ours: OurCommands, tmp_path: Path) -> None:
    ours.check_move(tmp_path)


def test_move_to_an_unknown_destination(ours: OurCommands) -> None:
    ours.check_unknown_destination()


def test_nothing_listens(ours: OurCommands) -> None:
    ours.check_nothing_listens()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "mutual-tls"])
def test_storescu_sends_every_bundled_file_bit_for_bit(tmp_path: Path, tls: bool) -> None:
    site, received, log = Site(tmp_path), tmp_path / "received", tmp_path / "storescp.log"
    received.mkdir()
    port = free_port()
    security = options_for_tls(site.names("STORESCP")) if tls else []
    # Bit preserving, and whatever transfer syntax we propose.
    words = ("storescp", *security, "+B", "+xa", "-aet", "STORESCP", port)
    with program(*words, cwd=received, log=log) as process:
        wait_for_port(process, port, log)
        done = isocenter_command(
            "storescu", f"STORESCP@127.0.0.1:{port}", "-aet", "MODALITY",
            *(options_for_tls(site.names("MODALITY"), style="ours") if tls else []),
            *storable_files(),
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    came = by_uid([path for path in received.iterdir() if path.stat().st_size])
    assert len(came) == len(storable_files())
    for path in storable_files():
        uid = str(_identity(path))
        assert data_set_bytes(came[uid]) == as_we_send_it(path), path.name


def _identity(path: Path) -> str:
    """Of the data set: some files say another one in front of it."""
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
