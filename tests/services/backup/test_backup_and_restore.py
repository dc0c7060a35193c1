"""`isocenter backup` and `restore`, as an operator types them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.backup.generation import Generation
from isocenter.services.backup.repository import BackupFolder
from isocenter.services.backup.restoration import Restoring
from isocenter.services.cli import main
from isocenter.services.security.audit.trail_compression import compress_closed
from isocenter.services.security.audit.trail_verification import verify as verify_trail
from isocenter.services.service_classes.print.job import ComposedFilm, NewPrintJob
from isocenter.storage.objects.files.directory import lock_folder
from isocenter.storage.stores import open_sqlite_stores
from services.archive_support import STUDY, uid
from services.cli_support import write_object
from services.security.audit.trails import filled
from support.buckets import new_location
from support.processes import isocenter_command

Output = pytest.CaptureFixture[str]


class Site:
    """An archive with a CA, a policy and some objects, and where it is backed up to."""

    def __init__(self, root: Path, capsys: Output) -> None:
        self.root = root
        self.data_dir = root / "data"
        self.backups = root / "backups"
        self._capsys = capsys

    def call(self, *words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def add(self, *numbers: int, pixels: bytes = bytes(64)) -> None:
        files = self.root / f"files{min(numbers)}-{len(pixels)}"
        files.mkdir()
        for number in numbers:
            write_object(files, number, pixels=pixels)
        code, out, err = self.call("import", files, "--data-dir", self.data_dir)
        assert code == 0, out + err

    def back_up(self, *options: object) -> Generation:
        code, out, err = self.call("backup", self.backups, "--data-dir", self.data_dir, *options)
        assert code == 0, out + err
        return BackupFolder.open(self.backups).generations()[-1]

    def restore(self, *options: object, to: str = "new") -> tuple[int, str, str]:
        return self.call("restore", self.backups, "--data-dir", self.root / to, *options)

    def object(self, number: int, data_dir: str = "data") -> Path:
        (path,) = (self.root / data_dir / "objects").rglob(f"{uid(number)}.dcm")
        return path


@pytest.fixture
def site(tmp_path: Path, capsys: Output) -> Site:
    site = Site(tmp_path, capsys)
    site.add(1, 2, 3)
    for words in (
        ["certs", "init"],
        ["certs", "issue", "CT1"],
        ["ae", "add", "CT1", "--name", "CT1"],
    ):
        code, out, err = site.call(*words, "--data-dir", site.data_dir)
        assert code == 0, out + err
    return site


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("lock")
    }


FILM = ComposedFilm(png=b"a film", width=1, height=1, dots_per_inch=150)


async def print_film(data_dir: Path) -> None:
    job = NewPrintJob(job_uid="1.2.3", originator="CT1", films=(FILM,))
    async with open_sqlite_stores(data_dir / "index.db") as stores:
        assert await stores.print_jobs.submit(job, most=1)


async def printed_film(data_dir: Path) -> ComposedFilm | None:
    async with open_sqlite_stores(data_dir / "index.db") as stores:
        return await stores.print_jobs.film("1.2.3", 1)


def test_everything_but_the_keys_comes_back(site: Site) -> None:
    trio.run(print_film, site.data_dir)
    site.back_up()
    before = files_below(site.data_dir)
    code, out, err = site.restore()
    assert code == 0, out + err
    assert "3 instances, 3 objects" in out
    after = files_below(site.root / "new")
    keys = {"certs/ca.key", "certs/issued/CT1/CT1.key"}
    assert before.keys() - after.keys() == keys
    for name in keys:
        assert name in err
    changed = {name for name in after if before.get(name) != after[name]}
    # The restore itself is recorded; the index was copied page by page, and is compared below.
    assert {name.partition("/")[0] for name in changed} <= {"audit", "index.db"}
    assert trio.run(printed_film, site.root / "new") == FILM
    assert verify_trail(site.root / "new" / "audit").is_good
    trail = before["audit/audit-000000000001.jsonl"]
    assert after["audit/audit-000000000001.jsonl"].startswith(trail)
    code, out, _ = site.call("db", "stats", "--data-dir", site.root / "new")
    assert "instances                 3" in out
    for path in (site.root / "new").rglob("*"):
        assert not path.stat().st_mode & 0o077 or path.suffix in {".crt", ".pem"}, path
    for path in site.backups.rglob("*"):
        assert not path.stat().st_mode & 0o077, path


def test_a_backup_is_in_the_audit_trail(site: Site) -> None:
    site.back_up()
    code, out, _ = site.call("audit", "show", "--data-dir", site.data_dir)
    assert code == 0
    assert "Use of Restricted Function" in out
    assert "the archive is backed up" in out
    # The record is in the backup itself: it came first.
    site.restore()
    code, out, _ = site.call("audit", "show", "--data-dir", site.root / "new")
    assert "the archive is backed up" in out
    assert "the archive is the one of backup" in out


def test_coreutils_verify_it_as_well(site: Site) -> None:
    generation = site.back_up()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=generation.folder, check=False)
    assert done.returncode == 0
    for entry in generation.entries():
        path = BackupFolder(site.backups).path_of(entry.sha256)
        output = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
        assert output.stdout.split()[0] == path.name


def test_only_what_is_new_is_copied_and_every_generation_is_whole(site: Site) -> None:
    first = site.back_up()
    contents = {path.name for path in BackupFolder(site.backups).contents()}
    site.add(4)
    second = site.back_up()
    # One object, the audit trail, and its head.
    assert second.manifest().copied == 3
    assert contents <= {path.name for path in BackupFolder(site.backups).contents()}
    for generation, instances in ((first, 3), (second, 4)):
        code, out, err = site.restore("--generation", generation.name, to=generation.name)
        assert code == 0, out + err
        assert f"{instances} instances, {instances} objects" in out
    code, out, err = site.call("backup", "--verify", "--all", site.backups)
    assert code == 0, out + err
    assert out.startswith("2 backups, ")


def test_a_key_that_is_used_again_for_other_bytes_is_copied_again(site: Site) -> None:
    """`replace` and deletion let one path hold another object later."""
    first = site.back_up()
    path = site.object(1)
    old = path.read_bytes()
    path.unlink()
    code, *_ = site.call("db", "reindex", "--data-dir", site.data_dir)
    assert code == 1  # forgotten
    site.add(1, pixels=bytes(100))
    assert site.object(1) == path
    site.back_up()
    code, out, err = site.restore()
    assert code == 0, out + err
    assert site.object(1, "new").read_bytes() == path.read_bytes() != old
    code, out, err = site.restore("--generation", first.name, to="old")
    assert site.object(1, "old").read_bytes() == old


def test_keys_are_taken_along_with_a_passphrase(site: Site) -> None:
    secret = site.root / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o644)
    code, _, err = site.call(
        "backup", site.backups, "--data-dir", site.data_dir, "--key-passphrase-file", secret
    )
    assert code == 1
    assert f"is open to others; chmod 600 {secret}" in err
    secret.chmod(0o600)
    generation = site.back_up("--key-passphrase-file", secret)
    assert [key.kept for key in generation.manifest().keys] == ["encrypted", "encrypted"]
    for content in files_below(site.backups).values():
        assert b"-----BEGIN PRIVATE KEY" not in content
        assert b"-----BEGIN EC PRIVATE KEY" not in content
    # openssl opens it, too.
    done = subprocess.run(
        ["openssl", "pkey", "-in", generation.keys / "certs/ca.key", "-passin", f"file:{secret}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == (site.data_dir / "certs/ca.key").read_text()
    wrong = site.root / "wrong"
    wrong.write_text("incorrect horse\n")
    wrong.chmod(0o600)
    code, _, err = site.restore("--key-passphrase-file", wrong)
    assert code == 1
    assert "the passphrase is not the one of this backup" in err
    assert not (site.root / "new").exists()
    code, out, err = site.restore("--key-passphrase-file", secret)
    assert code == 0, out + err
    for name in ("certs/ca.key", "certs/issued/CT1/CT1.key"):
        assert (site.root / "new" / name).read_bytes() == (site.data_dir / name).read_bytes()
        assert (site.root / "new" / name).stat().st_mode & 0o777 == 0o600
    # The CA works on.
    code, out, err = site.call("certs", "issue", "CT2", "--data-dir", site.root / "new")
    assert code == 0, out + err


def test_keys_of_de_identification_are_taken_along_encrypted_only(site: Site) -> None:
    """With the mapping beside it, whoever has the key can say who everybody is."""
    code, out, err = site.call("deidentification", "list", "--data-dir", site.data_dir)
    assert code == 0, out + err
    key = site.data_dir / "deidentification" / "basic.key"
    original = key.read_bytes()
    generation = site.back_up()
    assert ("deidentification/basic.key", "reference") in {
        (each.path, each.kept) for each in generation.manifest().keys
    }
    assert not any(original.strip() in content for content in files_below(site.backups).values())
    secret = site.root / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    site.back_up("--key-passphrase-file", secret)
    assert not any(original.strip() in content for content in files_below(site.backups).values())
    wrong = site.root / "wrong"
    wrong.write_text("incorrect horse\n")
    wrong.chmod(0o600)
    code, _, err = site.restore("--key-passphrase-file", wrong)
    assert code == 1
    assert "the passphrase is not the one of this backup" in err
    code, out, err = site.restore("--key-passphrase-file", secret)
    assert code == 0, out + err
    restored = site.root / "new" / "deidentification" / "basic.key"
    assert restored.read_bytes() == original
    assert restored.stat().st_mode & 0o777 == 0o600


def test_pseudonyms_after_a_restore_are_those_of_before(site: Site) -> None:
    def exported(data_dir: Path, to: str) -> tuple[set[str], bytes]:
        code, out, err = site.call(
            "export", "--study", STUDY, "--to", site.root / to, "--deidentify", "basic",
            "--data-dir", data_dir,
        )  # fmt: skip
        assert code == 0, out + err
        mapping = site.root / f"{to}.json"
        code, out, err = site.call(
            "deidentification", "export", "basic", mapping, "--data-dir", data_dir
        )
        assert code == 0, out + err
        names = {path.name for path in (site.root / to).rglob("*") if path.is_file()}
        return names, mapping.read_bytes()

    before = exported(site.data_dir, "before")
    secret = site.root / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    site.back_up("--key-passphrase-file", secret)
    code, out, err = site.restore("--key-passphrase-file", secret)
    assert code == 0, out + err
    assert exported(site.root / "new", "after") == before


def test_the_digest_of_a_public_key_tells_which_key_it_was(site: Site) -> None:
    generation = site.back_up()
    (key,) = (one for one in generation.manifest().keys if one.path == "certs/ca.key")
    done = subprocess.run(
        f"openssl pkey -in {site.data_dir}/certs/ca.key -pubout -outform DER | sha256sum",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[0] == key.public_key_sha256


def test_settings_and_what_lies_elsewhere_are_told(site: Site) -> None:
    secrets = [site.root / "hmac.key", site.data_dir / "hmac.key"]
    for secret in secrets:
        secret.write_text("0123456789abcdef0123456789abcdef")
        secret.chmod(0o600)
    config = site.root / "isocenter.toml"
    text = '[storage]\ndata_dir = "data"\n[server]\nae_title = "SITE"\n'
    config.write_text(f'{text}[audit]\nhmac_key_file = "{secrets[0]}"\n')
    code, out, err = site.call("backup", site.backups, "--config", config)
    assert code == 0, out + err
    assert f"not backed up: {secrets[0]} (audit.hmac_key_file)" in err
    text = f'{text}[audit]\nhmac_key_file = "{secrets[1]}"\n'
    config.write_text(text)
    code, out, err = site.call("backup", site.backups, "--config", config)
    assert code == 0, out + err
    assert "certs/issued/CT1/CT1.key, hmac.key" in err
    generation = BackupFolder.open(site.backups).generations()[-1]
    assert (generation.settings / "isocenter.toml").read_text() == text
    assert 'ae_title = "SITE"' in (generation.settings / "effective.toml").read_text()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "was changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes instead of"),
        (lambda path: path.unlink(), "is gone"),
    ],
)
def test_damage_of_the_backup_is_found_and_mended_by_the_next(
    site: Site, damage: Callable[[Path], object], fault: str
) -> None:
    generation = site.back_up()
    (entry,) = (one for one in generation.entries() if f"{uid(2)}.dcm" in one.path)
    damage(BackupFolder(site.backups).path_of(entry.sha256))
    for options in ([], ["--all"]):
        code, out, err = site.call("backup", "--verify", site.backups, *options)
        assert code == 1
        assert f"{generation.name}: {entry.path} (" in err
        assert fault in err
    code, _, err = site.restore()
    assert code == 1
    assert "--generation NAME" in err
    code, out, err = site.restore("--incomplete", to="part")
    assert code == 1
    assert f"not restored: {entry.path}" in err
    assert "1 missing" in out
    if fault != "was changed":  # what looks as it did is read by --verify only
        site.back_up()
        code, out, err = site.call("backup", "--verify", site.backups)
        assert code == 0, out + err
        code, out, err = site.restore(to="again")
        assert code == 0, out + err


@pytest.mark.parametrize("name", ["manifest.json", "objects.jsonl", "index.db", "SHA256SUMS"])
def test_damage_of_a_generation_itself_stops_the_restore(site: Site, name: str) -> None:
    generation = site.back_up()
    path = generation.folder / name
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    code, _, err = site.call("backup", "--verify", site.backups)
    assert code == 1
    assert generation.name in err
    code, _, err = site.restore()
    assert code == 1
    assert "is damaged" in err
    assert not (site.root / "new").exists()


def test_what_the_archive_has_lost_is_said_and_kept_from_before(site: Site) -> None:
    first = site.back_up()
    site.add(4)
    site.object(1).write_bytes(site.object(1).read_bytes()[:-1] + b"?")
    site.object(4).unlink()
    code, out, err = site.call("backup", site.backups, "--data-dir", site.data_dir, "--keep", 1)
    assert code == 1
    assert f"not in the backup: {uid(4)} (its object is gone)" in err
    # The one that is damaged now was copied when it was well; and no good backup is removed.
    assert uid(1) not in err
    assert first.folder.is_dir()
    code, out, err = site.call("backup", "--verify", site.backups)
    assert code == 0, out + err
    assert "1 objects were lost in the archive itself" in err
    code, out, err = site.restore()
    assert code == 1
    assert "1 missing, 0 of wrong size, 0 changed" in out


def test_damaged_objects_are_not_taken_for_good_ones(site: Site) -> None:
    site.object(1).write_bytes(site.object(1).read_bytes()[:-1] + b"?")
    code, _, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
    assert code == 1
    assert f"{uid(1)} (the data set is not the one that was stored)" in err


def test_an_unfinished_backup_is_none_and_is_taken_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def full(self: BackupFolder, generation: Generation) -> Generation:
            raise OSError(28, os.strerror(28))

        patch.setattr(BackupFolder, "finish", full)
        code, _, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
        assert code == 1
    folder = BackupFolder.open(site.backups)
    assert not folder.generations()
    (unfinished,) = folder.unfinished()
    # The end of its list as a power failure may leave it.
    unfinished.objects.write_bytes(unfinished.objects.read_bytes()[:-20])
    code, _, err = site.restore()
    assert code == 1
    assert "one was begun, and is not finished" in err
    code, out, _ = site.call("backup", "--list", site.backups)
    assert "not finished" in out
    code, out, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
    assert code == 0, out + err
    assert "was not finished" in err
    (generation,) = folder.generations()
    assert not folder.unfinished()
    assert generation.manifest().copied <= 2  # the audit trail and its head
    assert site.restore()[0] == 0


def interrupted(call: Callable[..., object]) -> Callable[..., object]:
    """*call*, in the middle of which the user presses Ctrl-C: once, however many run at a time."""
    first = threading.Lock()

    def wrapper(*arguments: object, **options: object) -> object:
        if first.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            trio.from_thread.check_cancelled()
        return call(*arguments, **options)

    return wrapper


def test_ctrl_c_leaves_what_the_next_one_goes_on_with(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BackupFolder, "put", interrupted(BackupFolder.put))
        code, out, _ = site.call("backup", site.backups, "--data-dir", site.data_dir)
    assert (code, out) == (130, "")
    folder = BackupFolder.open(site.backups)
    assert not folder.generations()
    assert folder.unfinished()
    assert not (site.data_dir / "removed").exists()
    site.back_up()
    assert not folder.unfinished()
    with monkeypatch.context() as patch:
        patch.setattr(Restoring, "_restore", interrupted(Restoring._restore))
        code, out, _ = site.restore()
    assert (code, out) == (130, "")
    assert (site.root / "new" / "restoring.json").exists()
    code, out, err = site.restore()
    assert code == 0, out + err


def test_a_restored_archive_without_the_key_of_its_ca_says_so(site: Site) -> None:
    site.back_up()
    assert site.restore()[0] == 0
    new = site.root / "new"
    code, _, err = site.call("serve", "--data-dir", new, "--port", 0, "--tls-port", 0)
    assert code == 2
    assert f"the key of the CA in {new / 'certs'} is missing; put it back" in err
    (new / "certs" / "ca.key").write_bytes((site.data_dir / "certs" / "ca.key").read_bytes())
    (new / "certs" / "ca.key").chmod(0o600)
    code, out, err = site.call("certs", "issue", "CT2", "--data-dir", new)
    assert code == 0, out + err


def test_a_restore_that_was_cut_short_goes_on_and_keeps_servers_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.back_up()
    new = site.root / "new"
    with monkeypatch.context() as patch:

        def stop(self: object) -> None:
            raise OSError(5, os.strerror(5))

        patch.setattr(Restoring, "_finish", stop)
        assert site.restore()[0] == 1
    assert (new / "restoring.json").exists()
    for words in (["serve", "--no-tls", "--port", 0], ["db", "verify"], ["db", "reindex"]):
        code, _, err = site.call(*words, "--data-dir", new)
        assert code != 0
        assert "is not finished; go on with isocenter restore" in err
    code, out, err = site.restore()
    assert code == 0, out + err
    assert "3 were there from before" in out
    assert not (new / "restoring.json").exists()


def test_a_restore_that_began_at_the_same_time_keeps_its_mark(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.back_up()
    mark = site.root / "new" / "restoring.json"
    begin = Restoring.begin

    async def second(self: Restoring) -> None:
        mark.write_text('{"backup": "/b", "generation": "20260102T030405Z", "elsewhere": ""}')
        await begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(Restoring, "begin", second)
        code, _, err = site.restore()
    assert code == 1
    assert "is not finished; go on with isocenter restore /b" in err
    assert "20260102T030405Z" in mark.read_text()


def test_nothing_is_restored_over_something(site: Site) -> None:
    site.back_up()
    site.add(4)
    before = files_below(site.data_dir)
    code, _, err = site.restore(to="data")
    assert code == 1
    assert "is not empty" in err
    assert files_below(site.data_dir) == before
    code, out, err = site.restore("--replace", to="data")
    assert code == 0, out + err
    assert "3 instances" in out
    (aside,) = site.root.glob("data.replaced-*")
    assert files_below(aside) == before
    os.mkdir(site.root / "empty", 0o700)
    assert site.restore(to="empty")[0] == 0


def test_films_here_and_there_that_cannot_be_read_are_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = site.data_dir / "films" / "1.2.3"
    films.mkdir(parents=True)
    for number in range(60):
        (films / f"{number}.png").write_bytes(b"film %d" % number)
    put = BackupFolder.put

    def failing(self: BackupFolder, path: Path, **options: Any) -> Any:
        if path.parent == films and int(path.stem) % 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return put(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(BackupFolder, "put", failing)
        code, _, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
    assert code == 1
    assert "films/1.2.3/1.png (cannot be read: Input/output error)" in err
    assert site.restore()[0] == 1
    restored = site.root / "new" / "films" / "1.2.3"
    assert {path.name for path in restored.iterdir()} == {f"{n}.png" for n in range(0, 60, 2)}


def test_what_another_command_is_at_work_on_is_not_moved_aside(site: Site) -> None:
    site.back_up()
    before = files_below(site.data_dir)
    descriptor = lock_folder(str(site.data_dir), shared=False)
    try:
        code, _, err = site.restore("--replace", to="data")
    finally:
        os.close(descriptor)
    assert code == 1
    assert "another command, such as a restore, is at work on" in err
    assert files_below(site.data_dir) == before
    assert not list(site.root.glob("data.replaced-*"))


def test_what_others_put_there_disturbs_nothing(site: Site) -> None:
    elsewhere = site.root / "other disk"
    (site.data_dir / "access").rename(elsewhere)
    (site.data_dir / "access").symlink_to(elsewhere)
    (site.data_dir / "notes.txt").write_text("kept")
    (site.data_dir / "a\\b").write_text("a name that no list has")
    (site.data_dir / "a\nb").write_text("another one")
    Path(os.fsdecode(os.fsencode(site.data_dir) + b"/latin\xe4")).write_text("no UTF-8")
    (site.data_dir / "link").symlink_to(site.data_dir)
    os.mkfifo(site.data_dir / "certs" / "pipe")
    code, out, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
    assert code == 0, out + err
    assert err.count("left out, as it is no file of ours: ") == 5
    for name in ("certs/pipe", "link", "latin\\udce4"):
        assert f"ours: {name}" in err
    code, out, err = site.restore()
    assert code == 0, out + err
    new = site.root / "new"
    assert (new / "notes.txt").read_text() == "kept"
    assert (new / "access" / "policy.json").is_file()
    assert not (new / "access").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_root_makes_belongs_to_the_server(site: Site) -> None:
    """Whoever runs the server must read and write what an operator's commands leave there."""

    def give(folder: Path) -> None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65_534, 65_534)

    def owners(folder: Path) -> set[int]:
        return {path.stat().st_uid for path in (folder, *folder.rglob("*"))}

    give(site.data_dir)
    secret = site.root / "secret"
    secret.write_text("correct horse battery")
    secret.chmod(0o600)
    site.back_up("--key-passphrase-file", secret)
    assert owners(site.data_dir) == {65_534}
    new = site.root / "new"
    new.mkdir()
    give(new)
    code, out, err = site.restore("--key-passphrase-file", secret)
    assert code == 0, out + err
    assert not [p for p in new.rglob("*") if p.stat().st_uid == 0]
    assert owners(new) == {65_534}
    code, out, err = site.restore("--key-passphrase-file", secret, "--replace")
    assert code == 0, out + err
    assert not [p for p in new.rglob("*") if p.stat().st_uid == 0]
    assert owners(new) == {65_534}


def test_check_changes_nothing(site: Site) -> None:
    site.back_up()
    code, out, err = site.restore("--check")
    assert code == 0, out + err
    assert "can be restored" in out
    assert not (site.root / "new").exists()


def test_the_trash_comes_back_as_it_was(site: Site) -> None:
    where = ("--data-dir", site.data_dir)
    assert site.call("delete", "--instance", uid(1), "--reason", "a test", "--yes", *where)[0] == 0
    generation = site.back_up()
    assert (generation.manifest().instances, generation.manifest().trashed) == (2, 1)
    # What is deleted for good later is in the backup still; what is deleted later is not twice.
    assert site.call("trash", "purge", "--all", "--yes", *where)[0] == 0
    assert site.call("delete", "--instance", uid(2), "--reason", "later", "--yes", *where)[0] == 0
    code, out, err = site.restore()
    assert code == 0, out + err
    new = ("--data-dir", site.root / "new")
    (row,) = json.loads(site.call("trash", "list", *new, "--json")[1])
    assert (row["instances"], row["reason"]) == (1, "a test")
    assert len(list((site.root / "new" / "trash").iterdir())) == 1
    code, out, err = site.call("trash", "restore", row["deletion"], *new)
    assert code == 0, out + err
    code, out, err = site.call("db", "verify", *new)
    assert code == 0, out + err
    assert "3 instances, 3 objects" in out
    assert ", 0 not in the index" in out


def test_what_is_deleted_and_purged_while_a_backup_is_made_is_in_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--data-dir", str(site.data_dir))
    assert site.call("delete", "--instance", uid(1), "--reason", "before", "--yes", *where)[0] == 0
    from isocenter.storage.database.sqlite.backup import SqliteIndexFile

    copied = SqliteIndexFile.copy_to

    def copy_and_delete(self: SqliteIndexFile, *arguments: object) -> None:
        copied(self, *arguments)  # type: ignore[arg-type]
        for words in (
            ["delete", "--instance", uid(2), "--reason", "meanwhile", "--yes"],
            ["trash", "purge", "--all", "--yes"],
        ):
            done = isocenter_command(*words, *where)
            assert done.returncode == 0, done.stdout
        assert (site.data_dir / "removed").is_dir()

    with monkeypatch.context() as patch:
        patch.setattr(SqliteIndexFile, "copy_to", copy_and_delete)
        manifest = site.back_up().manifest()
    assert (manifest.instances, manifest.trashed) == (2, 1)
    assert not (site.data_dir / "removed").exists()
    code, out, err = site.restore()
    assert code == 0, out + err
    assert "2 instances, 2 objects" in out
    (row,) = json.loads(site.call("trash", "list", "--data-dir", site.root / "new", "--json")[1])
    assert row["reason"] == "before"
    assert site.call("trash", "restore", row["deletion"], "--data-dir", site.root / "new")[0] == 0


def test_old_generations_go_with_what_only_they_had(site: Site) -> None:
    first = site.back_up()
    site.object(3).unlink()
    site.call("db", "reindex", "--data-dir", site.data_dir)
    second = site.back_up()
    code, out, err = site.call("backup", site.backups, "--data-dir", site.data_dir, "--keep", 2)
    assert code == 0, out + err
    folder = BackupFolder.open(site.backups)
    assert next(one.name for one in folder.generations()) == second.name
    assert not first.folder.exists()
    listed = {entry.sha256 for one in folder.generations() for entry in one.entries()}
    assert {path.name for path in folder.contents()} == listed
    code, out, err = site.call("backup", "--verify", "--all", site.backups)
    assert code == 0, out + err


def test_a_backup_of_a_later_program_is_left_alone(site: Site) -> None:
    generation = site.back_up()
    manifest = json.loads((generation.folder / "manifest.json").read_text())
    for members, words in (
        ({"format": 99}, "format 99"),
        ({"schema_version": 99}, "newer Isocenter"),
    ):
        text = json.dumps(manifest | members)
        (generation.folder / "manifest.json").write_text(text)
        (generation.folder / "SHA256SUMS").unlink()
        generation.seal()
        code, _, err = site.restore()
        assert code == 1
        assert words in err
        assert not (site.root / "new").exists()


def test_lists_that_lead_out_of_the_folder_are_refused(site: Site) -> None:
    generation = site.back_up()
    text = generation.files.read_text().replace('"path":"access/', '"path":"../access/', 1)
    assert "../" in text
    generation.files.write_text(text)
    (generation.folder / "SHA256SUMS").unlink()
    generation.seal()
    code, _, err = site.restore()
    assert code == 1
    assert "not an entry of a backup" in err
    assert not (site.root / "new").exists()


def test_two_at_once_keep_out_of_each_others_way(site: Site) -> None:
    site.back_up()
    with BackupFolder(site.backups).locked(shared=True):
        code, _, err = site.call("backup", site.backups, "--data-dir", site.data_dir)
        assert code == 1
        assert "is in use by another backup" in err
        assert site.call("backup", "--verify", site.backups)[0] == 0


def test_bad_input_changes_nothing(site: Site) -> None:
    something = site.root / "something"
    something.mkdir()
    (something / "letter.txt").write_text("keep me")
    short = site.root / "short"
    short.write_text("abc")
    short.chmod(0o600)
    cases: list[tuple[list[object], int, str]] = [
        (["backup", something, "--data-dir", site.data_dir], 1, "holds something else"),
        (["backup", short, "--data-dir", site.data_dir], 1, "short"),
        (["backup", site.data_dir / "b", "--data-dir", site.data_dir], 1, "within each other"),
        (["backup", site.root / "b", "--data-dir", site.root / "no"], 2, "no archive is there"),
        (["backup", site.root / "b", "--data-dir", ":memory:"], 2, "in memory"),
        (["backup", "--verify", something], 1, "no backup is there"),
        (["backup", "--list", site.root / "no"], 1, "no backup is there"),
        (["backup", site.root / "b", "--all"], 2, "go with --verify"),
        (["backup", "--verify", site.root / "b", "--keep", 1], 2, "go with making"),
        (
            [
                "backup",
                site.root / "b",
                "--data-dir",
                site.data_dir,
                "--key-passphrase-file",
                short,
            ],
            1,
            "must have 8 to 1023 bytes",
        ),
        (["restore", something, "--data-dir", site.root / "n"], 1, "no backup is there"),
        (["restore", something], 2, "say where to"),
    ]
    before = files_below(something)
    for words, code, text in cases:
        found, out, err = site.call(*words)
        assert (found, text in err) == (code, True), (words, out, err)
        assert out == ""
    assert files_below(something) == before
    assert not (site.root / "n").exists()
    site.back_up()
    code, _, err = site.restore("--generation", "20260101T000000Z")
    assert code == 1
    assert "no backup '20260101T000000Z'; the last ones are" in err
    code, _, err = site.call("restore", site.backups, "--data-dir", site.backups / "inner")
    assert code == 1
    assert "within each other" in err
    with pytest.raises(SystemExit, match="2"):
        site.call("backup", site.backups, "--keep", "0")


# -- The audit trail ---------------------------------------------------------------------


def test_compressed_files_of_the_trail_come_back(site: Site) -> None:
    folder = site.data_dir / "audit"
    filled(folder, 12, rotate_bytes=1)
    first = site.back_up()
    assert compress_closed(folder).files >= 12
    checkpoint = verify_trail(folder).end
    second = site.back_up()
    names = {entry.path for entry in second.entries() if ".jsonl" in entry.path}
    assert sum(name.endswith(".gz") for name in names) >= 12
    for generation, to in ((first, "one"), (second, "two")):
        code, out, err = site.restore("--generation", generation.name, to=to)
        assert code == 0, out + err
        restored = site.root / to / "audit"
        assert verify_trail(restored).is_good
        compress_closed(restored)
        assert verify_trail(restored).is_good
    assert verify_trail(site.root / "two" / "audit", checkpoint=checkpoint).is_good


def test_a_backup_goes_on_when_files_of_the_trail_are_compressed_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site.data_dir / "audit"
    filled(folder, 5, rotate_bytes=1)
    put, compressed = BackupFolder.put, []

    def compressing(self: BackupFolder, place: Path, **options: Any) -> Any:
        if place.name.startswith("audit-") and not compressed:
            compressed.append(compress_closed(folder))
        return put(self, place, **options)

    monkeypatch.setattr(BackupFolder, "put", compressing)
    site.back_up()
    assert compressed
    assert site.restore()[0] == 0
    assert verify_trail(site.root / "new" / "audit").is_good


@pytest.mark.parametrize("folder", ["trail", "data/logs/trail"])
def test_a_trail_in_a_folder_of_its_own_comes_back_there(site: Site, folder: str) -> None:
    shutil.move(site.data_dir / "audit", site.root / "moved")
    config = site.root / "isocenter.toml"
    config.write_text(f"[storage]\ndata_dir = 'data'\n[audit]\nfolder = '{folder}'\n")
    trail = site.root / folder
    shutil.copytree(site.root / "moved", trail)
    code, out, err = site.call("backup", site.backups, "--config", config)
    assert code == 0, out + err
    assert "not backed up" not in err
    checkpoint = verify_trail(trail).end
    generation = BackupFolder.open(site.backups).generations()[-1]
    paths = [entry.path for entry in generation.entries()]
    assert len([path for path in paths if "audit-0" in path]) == 1, "once"
    # Elsewhere, where the settings want it in another place.
    (site.root / "elsewhere").mkdir()
    other = site.root / "elsewhere" / "isocenter.toml"
    other.write_text("[storage]\ndata_dir = 'archive'\n[audit]\nfolder = 'log'\n")
    code, out, err = site.call("restore", site.backups, "--config", other)
    assert code == 0, out + err
    assert verify_trail(site.root / "elsewhere" / "log", checkpoint=checkpoint).is_good
    assert not (site.root / "elsewhere" / "archive" / "audit").exists()
    # What is there already is not mixed with it.
    code, _, err = site.call(
        "restore", site.backups, "--config", other, "--data-dir", site.root / "third"
    )
    assert code == 1
    assert "log is not empty" in err
    # And without settings, in the data directory.
    code, out, err = site.restore()
    assert code == 0, out + err
    assert verify_trail(site.root / "new" / "audit", checkpoint=checkpoint).is_good


def test_a_trail_that_is_used_no_more_is_told(site: Site) -> None:
    config = site.root / "isocenter.toml"
    config.write_text("[storage]\ndata_dir = 'data'\n[audit]\nfolder = 'trail'\n")
    filled(site.root / "trail", 2)
    code, out, err = site.call("backup", site.backups, "--config", config)
    assert code == 0, out + err
    assert "left out, as it is no file of ours: audit" in err
    assert site.restore()[0] == 0
    assert verify_trail(site.root / "new" / "audit").records >= 2


def test_a_backup_into_the_folder_of_the_trail_is_refused(site: Site) -> None:
    config = site.root / "isocenter.toml"
    config.write_text("[storage]\ndata_dir = 'data'\n[audit]\nfolder = 'trail'\n")
    filled(site.root / "trail", 2)
    code, _, err = site.call("backup", site.root / "trail" / "backups", "--config", config)
    assert code != 0
    assert "lie within each other" in err


def test_what_was_corrected_comes_back_and_can_be_undone(site: Site) -> None:
    where = ("--data-dir", site.data_dir)
    correct = ("--set", "PatientName=Right^Name", "--reason", "a test", "--yes")
    code, out, err = site.call("correct", "--study", STUDY, *correct, *where)
    assert code == 0, out + err
    site.back_up()
    code, out, err = site.restore()
    assert code == 0, out + err
    new = ("--data-dir", site.root / "new")
    code, out, err = site.call("db", "verify", *new)
    assert code == 0, out + err
    assert "3 instances, 6 objects" in out
    code, out, err = site.call("corrections", "undo", "1", "--reason", "a test", *new)
    assert code == 0, out + err
    code, out, err = site.call("db", "verify", *new)
    assert code == 0, out + err
    assert "3 instances, 3 objects" in out
    for number in (1, 2, 3):
        assert site.object(number, "new").read_bytes() == site.object(number).read_bytes()


def with_tiers(path: Path, data_dir: Path, **places: object) -> Path:
    """Settings of an archive with tiers, which can be read at once."""
    lines = [
        f'{tier} = "{f"file://{place}" if isinstance(place, Path) else place}"'
        for tier, place in places.items()
    ]
    lines += [f'{tier}_availability = "online"' for tier in places]
    storage = f'[storage]\ndata_dir = "{data_dir}"\n'
    path.write_text("\n".join([storage, "[tiers]", *lines]))
    return path


@pytest.fixture
def tiered(site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of the site with an object in a bucket, and one in the trash of that."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    config = with_tiers(
        site.root / "tiers.toml", site.data_dir, warm=site.root / "warm", cold=new_location("c")
    )
    for words in (
        ["tiers", "move", STUDY, "--to", "cold"],
        ["delete", "--instance", uid(3), "--yes", "--reason", "test"],
    ):
        code, out, err = site.call(*words, "--config", config)
        assert code == 0, out + err
    site.add(4)
    return config


def test_an_archive_with_tiers_comes_back_into_other_ones(site: Site, tiered: Path) -> None:
    for _ in range(2):  # the second has it all
        code, out, err = site.call("backup", site.backups, "--config", tiered)
        assert code == 0, out + err
        assert "3 instances" in out
        assert "1 in the trash" in out
    code, out, err = site.call("backup", "--verify", site.backups)
    assert code == 0, out + err
    cold = site.root / "elsewhere"
    new = with_tiers(site.root / "new.toml", site.root / "new", warm=site.root / "w", cold=cold)
    code, out, err = site.call("restore", site.backups, "--config", new)
    assert code == 0, out + err
    assert "3 instances, 3 objects" in out
    assert len(list((cold / "objects").rglob("*.dcm"))) == 2
    assert len(list((cold / "trash").rglob("*.dcm"))) == 1
    (manifest,) = (cold / "trash").rglob("deletion.json")
    assert json.loads(manifest.read_bytes())["reason"] == "test"
    code, out, err = site.call("trash", "restore", "--instance", uid(3), "--config", new)
    assert code == 0, out + err
    code, out, err = site.call("db", "verify", "--config", new)
    assert code == 0, out + err
    assert "4 instances, 4 objects" in out


def test_an_object_that_its_tier_does_not_give_back_keeps_no_other_from_the_backup(
    site: Site,
) -> None:
    config = with_tiers(site.root / "tiers.toml", site.data_dir, warm=site.root / "warm")
    code, out, err = site.call("tiers", "move", STUDY, "--to", "warm", "--config", config)
    assert code == 0, out + err
    (lost,) = (site.root / "warm" / "objects").rglob(f"{uid(2)}*.dcm")
    lost.unlink()
    lost.mkdir()  # it can be neither read nor said to be gone
    code, out, err = site.call("backup", site.backups, "--config", config)
    assert code != 0
    assert f"not in the backup: {uid(2)} (cannot be read:" in err
    assert "3 instances" in out
    assert list((site.backups / "incoming").iterdir()) == []
    code, out, err = site.call("backup", "--verify", site.backups)
    assert code == 0, out + err


def test_a_tier_that_is_not_named_or_damaged_in_the_backup_is_told(
    site: Site, tiered: Path
) -> None:
    code, out, err = site.call("backup", site.backups, "--config", tiered)
    assert code == 0, out + err
    code, _, err = site.restore()
    assert code != 0
    assert "objects of the tier cold, and the settings name none (tiers.cold)" in err
    assert not (site.root / "new").exists()
    off_line = tiered.with_name("off.toml")
    off_line.write_text(tiered.read_text().replace('"online"', '"offline"'))
    code, _, err = site.call("backup", site.backups, "--config", off_line)
    assert code != 0
    assert "off line" in err
    # What is there already under a key is kept if it is the same, and never overwritten.
    cold = site.root / "elsewhere"
    new = with_tiers(site.root / "new.toml", site.root / "new", warm=site.root / "w", cold=cold)
    code, out, err = site.call("restore", site.backups, "--config", new)
    assert code == 0, out + err
    shutil.rmtree(site.root / "new")
    code, out, err = site.call("restore", site.backups, "--config", new)
    assert code == 0, out + err
    shutil.rmtree(site.root / "new")
    other = next((cold / "objects").rglob("*.dcm"))
    other.write_bytes(bytes(200))
    code, _, err = site.call("restore", site.backups, "--config", new)
    assert code != 0
    assert "has another object under" in err
    assert other.read_bytes() == bytes(200)
