"""API tokens of a running server with several workers: let in, revoked at once, audited."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from support.processes import ServedArchive, isocenter_command, served_archive

pytestmark = pytest.mark.slow

WORKERS = 2


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("tokens")
    with served_archive(folder, "--workers", WORKERS) as served:
        yield served


def token(archive: ServedArchive, *words: object) -> str:
    done = isocenter_command("token", "add", *words, "--data-dir", archive.data_dir, "-q")
    assert done.returncode == 0, done.stdout
    (found,) = re.findall(r"^iso_\w+$", done.stdout, re.MULTILINE)
    return str(found)


def statuses(url: str, text: str) -> set[int]:
    """Of some connections, which the workers share."""
    headers = {"authorization": f"Bearer {text}"}
    return {httpx.get(url, headers=headers, timeout=60).status_code for _ in range(8 * WORKERS)}


def test_revoked_by_a_command_is_refused_by_all_workers(archive: ServedArchive) -> None:
    url = f"{archive.web_url}/studies"
    text = token(archive, "viewer", "--role", "Viewer")
    assert statuses(url, text) == {200}
    with httpx.Client(headers={"authorization": f"Bearer {text}"}) as lasting:
        assert lasting.get(url).status_code == 200
        done = isocenter_command("token", "revoke", "viewer", "--data-dir", archive.data_dir)
        assert done.returncode == 0, done.stdout
        assert lasting.get(url).status_code == 401, "on a connection that stands"
    # After ten failures of an address it hears that it has to wait.
    assert statuses(url, text) <= {401, 429}
    log = archive.log.read_text("utf-8")
    assert text not in log
    assert text.split("_")[2] not in log


def test_a_token_for_the_figures(archive: ServedArchive) -> None:
    found = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", archive.log.read_text("utf-8"))
    assert found is not None
    url = f"{found[1]}/metrics"

    def status(text: str) -> int:
        # By another name: from this machine nobody needs one.
        headers = {"authorization": f"Bearer {text}", "host": "archive.example"}
        return httpx.get(url, headers=headers).status_code

    good = token(archive, "prometheus", "--role", "Viewer", "--scope", "pacs.metrics")
    other = token(archive, "reader", "--role", "Administrator")
    assert [status(one) for one in (good, other, "iso_x", "x")] == [200, 403, 403, 403]
    page = httpx.get(url).text
    assert "isocenter_http_requests_total" in page


def test_what_was_done_is_in_the_trail(archive: ServedArchive) -> None:
    done = isocenter_command("audit", "show", "--data-dir", archive.data_dir)
    assert done.returncode == 0
    assert "Security Alert" in done.stdout
