"""A server put together by another program than `isocenter serve`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services import composition
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server
from isocenter.services.composition.reloading import Reloader
from isocenter.services.composition.server import prepare_archive, serve_archive
from isocenter.services.composition.server_parts import (
    StartupError,
    build_server,
    check_addresses,
    listen,
)
from isocenter.services.service_classes.client import open_association
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.source import SettingsSource

VERIFICATION = "1.2.840.10008.1.1"
SECONDS = 120


def source_of(**overrides: Any) -> SettingsSource:
    values = {
        "storage.data_dir": ":memory:",
        "tls.enabled": False,
        "server.port": 0,
        "monitoring.enabled": False,
    }
    return SettingsSource(environ={}, overrides=values | overrides)


def settings_of(**overrides: Any) -> Settings:
    return source_of(**overrides).settings()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_whoever_has_settings_can_serve_and_stop(stack: ExitStack) -> None:
    settings = settings_of()
    parts = build_server(settings, stack)
    listeners = listen(parts, stack)
    (sock, _), *_ = listeners.dicom
    running: list[Server] = []
    ready = trio.Event()

    async def control(
        server: Server,
        reloader: Reloader,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        running.append(server)
        task_status.started()

    serve = partial(
        serve_archive,
        parts,
        listeners,
        source_of(),
        control,
        "test",
        ready.set,
        lambda: None,
        None,
    )
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await ready.wait()
            peer = Peer(settings.server.ae_title, "127.0.0.1", sock.getsockname()[1])
            async with open_association(peer, [(VERIFICATION, ["1.2.840.10008.1.2"])]) as ours:
                assert await ours.echo() == 0
            running[0].stop()


def test_all_that_stands_in_the_way_is_said_at_once(stack: ExitStack, tmp_path: Path) -> None:
    settings = settings_of(
        **{
            "server.capture": str(tmp_path / "no" / "folder" / "file"),
            "monitoring.token_file": str(tmp_path / "no-token"),
        }
    )
    (tmp_path / "no").write_text("a file, where a folder was to be")
    with pytest.raises(StartupError) as refused:
        build_server(settings, stack)
    assert len(refused.value.faults) == 2
    assert "no-token" in str(refused.value)


def test_a_check_opens_no_port_and_makes_no_file(stack: ExitStack, tmp_path: Path) -> None:
    settings = settings_of(**{"storage.data_dir": str(tmp_path / "data")})
    parts = build_server(settings, stack, only_check=True)
    assert check_addresses(parts) == [(settings.server.host, 0, False)]
    assert list(tmp_path.iterdir()) == []


async def test_an_archive_is_prepared_before_it_is_served(tmp_path: Path) -> None:
    settings = settings_of(**{"storage.data_dir": str(tmp_path / "data")})
    await prepare_archive(settings)
    assert (tmp_path / "data" / composition.INDEX_FILE).is_file()
    async with composition.open_stores(settings) as stores:
        assert (await stores.index.statistics()).instances == 0
        assert list(await stores.steps.rows()) == []
