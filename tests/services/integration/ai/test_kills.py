"""`kill -9` of an archive that waits for an AI service: the end is the same."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pynetdicom import AE

from services.integration.ai.ai_world import (
    CT,
    PATIENCE,
    STUDY,
    ct_image,
    threshold_service,
    threshold_serving,
)
from support.processes import ServedArchive, served_archive, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


class Hospital:
    """An archive that is killed, and started again."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._settings = folder / "isocenter.toml"
        self._settings.write_text(
            f"[jobs]\nfirst_retry = 0.2\nlongest_retry = 0.2\n"
            f"[[ai_services]]\nname = 'threshold'\nurl = '{url}'\npoll_interval = 0.2\n"
        )
        self.archive: ServedArchive
        self.start()

    def start(self) -> None:
        served = served_archive(self._folder, "--config", self._settings)
        self.archive = self._stack.enter_context(served)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        root = self.archive.web_url.removesuffix("/dicomweb")
        answer = httpx.request(method, f"{root}/api/v1{path}", json=body, timeout=120)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def scan(self) -> None:
        entity = AE("SCANNER")
        entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = entity.associate("127.0.0.1", self.archive.port, ae_title="ISOCENTER")
        for number in (1, 2, 3):
            image = pydicom.dcmread(io.BytesIO(ct_image(number)))
            assert association.send_c_store(image).Status == 0
        association.release()

    @property
    def state(self) -> str:
        (found,) = self.ask("GET", "/ai/requests")["requests"]
        return str(found["state"])


def while_it_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[threading.Event, Callable[[], None]]:
    """The event says that it begins; whoever calls lets it go on."""
    begun, go_on = threading.Event(), threading.Event()
    analyse = threshold_service.analyse

    def waiting(images: Any, threshold: float) -> Any:
        begun.set()
        go_on.wait(PATIENCE)
        return analyse(images, threshold)

    monkeypatch.setattr(threshold_service, "analyse", waiting)
    return begun, go_on.set


def while_results_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[threading.Event, Callable[[], None]]:
    """The same, before the first answer with results."""
    begun, go_on = threading.Event(), threading.Event()
    answer = threshold_service.Handler._parts

    def waiting(self: Any, files: Any) -> None:
        is_first = not begun.is_set()
        begun.set()
        if is_first:
            go_on.wait(PATIENCE)
            self.close_connection = True
        else:
            answer(self, files)

    monkeypatch.setattr(threshold_service.Handler, "_parts", waiting)
    return begun, go_on.set


def test_a_killed_archive_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = (while_it_computes(monkeypatch), while_results_are_fetched(monkeypatch))
    with threshold_serving() as service, ExitStack() as stack:
        place = Hospital(tmp_path, service.url, stack)
        place.scan()
        place.ask("POST", "/ai/requests", {"service": "threshold", "study": STUDY})
        for begun, go_on in states:
            stack.callback(go_on)
            assert begun.wait(PATIENCE)
            place.archive.kill()
            go_on()
            place.start()
        wait_until(lambda: place.state == "completed", place.archive.process)
        shown = place.ask("GET", f"/studies/{STUDY}/ai-results")
        assert len(shown["results"]) == 2
        assert {one["service"] for one in shown["results"]} == {"threshold"}
        assert shown["withheld"] == []
        # It was asked for once, and computed once.
        assert len(service.service._inferences) == 1
