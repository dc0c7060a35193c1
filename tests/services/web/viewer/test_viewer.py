"""The viewer: installed from a package that is what it says, served with what guards it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from isocenter.services.cli import main
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.messages import Request
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.security.access.permissions import ALL_PERMISSIONS, ROLES, Permissions
from isocenter.services.web.principal import Principal
from isocenter.services.web.viewer.package import (
    ViewerPackageError,
    digest_of,
    install,
    is_installed,
    remove,
)
from isocenter.services.web.viewer.service import viewer_routes
from support.web_archive import http_serving

INDEX = (
    b'<!doctype html><head><link rel="icon" href="/assets/a.ico"><a href="//x/y"></a>'
    b'<script>window.PUBLIC_URL="/"</script>'
    b'<script rel="preload" type="module" src="/init-service-worker.js"></script>'
    b'<script defer src="/app.bundle.12.js"></script></head>'
)
FILES = {
    "package/dist/index.html": INDEX,
    "package/dist/app.bundle.12.js": b'__webpack_require__.p = "/";\nx = "/";',
    "package/dist/app.css": b"a{src:url(/f.woff2)} b{src:url(//x/y)} c{src:url(data:x)}",
    "package/dist/app.bundle.12.js.map": b"for debuggers",
    "package/dist/assets/a.ico": b"icon",
    "package/README.md": b"text",
}


def packed(path: Path, files: Mapping[str, bytes] = FILES, *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in others:
            archive.addfile(member)
    return path


def installed(folder: Path) -> Path:
    package = packed(folder / "a.tgz")
    assert install(package, folder / "viewer", digest=digest_of(package)) == 4
    return folder / "viewer"


def test_the_files_are_fitted_to_their_path(tmp_path: Path) -> None:
    viewer = installed(tmp_path)
    index = (viewer / "index.html").read_bytes()
    assert b'href="/ohif/assets/a.ico"' in index
    assert b'window.PUBLIC_URL="/ohif/"' in index
    assert b'src="/ohif/app.bundle.12.js"' in index
    assert b"service-worker" not in index
    assert b'href="//x/y"' in index
    script = (viewer / "app.bundle.12.js").read_bytes()
    assert script == b'__webpack_require__.p = "/ohif/";\nx = "/";'
    style = (viewer / "app.css").read_bytes()
    assert style == b"a{src:url(/ohif/f.woff2)} b{src:url(//x/y)} c{src:url(data:x)}"
    names = {path.relative_to(viewer).as_posix() for path in viewer.rglob("*") if path.is_file()}
    assert names == {"index.html", "app.bundle.12.js", "app.css", "assets/a.ico"}


def test_another_package_is_not_installed_and_the_old_stays(tmp_path: Path) -> None:
    viewer = installed(tmp_path)
    other = packed(tmp_path / "b.tgz", {**FILES, "package/dist/index.html": b"other"})
    with pytest.raises(ViewerPackageError, match="npm pack @ohif/app"):
        install(other, viewer)
    assert b"PUBLIC_URL" in (viewer / "index.html").read_bytes()
    install(other, viewer, digest=digest_of(other))
    assert (viewer / "index.html").read_bytes() == b"other"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "b.tgz", "viewer"}


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    ("files", "others"),
    [
        ({**FILES, "package/dist/../../../out.js": b"x"}, ()),
        ({"package/dist/app.js": b"no page"}, ()),
        ({}, ()),
    ],
)
def test_a_package_that_is_none_changes_nothing(
    tmp_path: Path, files: Mapping[str, bytes], others: tuple[tarfile.TarInfo, ...]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    package = packed(tmp_path / "a.tgz", files, *others)
    with pytest.raises(ViewerPackageError):
        install(package, folder / "viewer", digest=digest_of(package))
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "out.js").exists()


def test_links_are_left_out(tmp_path: Path) -> None:
    package = packed(tmp_path / "a.tgz", FILES, link("package/dist/passwd", "/etc/passwd"))
    install(package, tmp_path / "viewer", digest=digest_of(package))
    assert not (tmp_path / "viewer" / "passwd").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b" + b"\0" * 20])
def test_what_is_no_package_is_told(tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "a.tgz"
    package.write_bytes(content)
    with pytest.raises(ViewerPackageError, match="cannot be installed"):
        install(package, tmp_path / "viewer", digest=digest_of(package))
    assert not is_installed(tmp_path / "viewer")


def test_it_is_removed(tmp_path: Path) -> None:
    viewer = installed(tmp_path)
    assert remove(viewer)
    assert not remove(viewer)


async def get(folder: Path, permissions: Permissions, *paths: str) -> list[httpx.Response]:
    async def authorize(request: Request, route: Route[Handler]) -> None:
        assert route.needs == "read"
        request.caller = Principal(permissions=permissions)

    application = RoutedApplication(RouteTable(viewer_routes(folder)), authorize=authorize)
    async with (
        http_serving(application) as root,
        httpx.AsyncClient(base_url=root, timeout=60) as client,
    ):
        return [await client.get(path) for path in paths]


async def test_its_page_runs_its_own_scripts_and_its_workers_reach_nobody_else(
    tmp_path: Path,
) -> None:
    viewer = installed(tmp_path)
    index, address, script, style = await get(
        viewer, ALL_PERMISSIONS, "/ohif/", "/ohif/viewer?StudyInstanceUIDs=1.2",
        "/ohif/app.bundle.12.js", "/ohif/app.css",
    )  # fmt: skip
    assert index.content == address.content == (viewer / "index.html").read_bytes()
    policy = index.headers["content-security-policy"]
    inline = re.findall(rb"<script>(.*?)</script>", index.content)
    assert len(inline) == 1
    digest = base64.b64encode(hashlib.sha256(inline[0]).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    # What makes functions of text in it are the arrays that segmentations come in.
    (scripts,) = [one for one in policy.split("; ") if one.startswith("script-src ")]
    assert "'unsafe-inline'" not in scripts
    assert "http" not in scripts
    assert "script-src 'self'" in script.headers["content-security-policy"]
    assert "http" not in policy + script.headers["content-security-policy"]
    for answer in (index, script, style):
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "immutable" in script.headers["cache-control"]
    assert index.headers["cache-control"] == "no-cache"
    assert style.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("role", ["Viewer", "Technologist"])
async def test_only_who_may_store_can_upload(tmp_path: Path, role: str) -> None:
    (answer,) = await get(installed(tmp_path), ROLES[role], "/ohif/app-config.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "private, no-store"
    assert ("stowRoot" in answer.text) is (role == "Technologist")
    assert '"routerBasename":"/ohif"' in answer.text
    assert '"option":"always"' in answer.text, "for investigational use only"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = packed(tmp_path / "a.tgz")
    where = ["--data-dir", str(tmp_path / "data")]
    assert main(["viewer", "status", *where]) == 1
    assert main(["viewer", "install", str(package), *where]) == 1
    assert digest_of(package) in capsys.readouterr().err
    assert main(["viewer", "install", str(package), "--sha512", digest_of(package), *where]) == 0
    assert main(["viewer", "status", *where]) == 0
    assert main(["viewer", "remove", *where]) == 0
    assert main(["viewer", "remove", *where]) == 1
    assert "no viewer is installed" in capsys.readouterr().out


def test_without_npm_the_command_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["viewer", "install", "--data-dir", str(tmp_path / "data")]) == 1
    assert "npm pack @ohif/app@3.13.2" in capsys.readouterr().err
