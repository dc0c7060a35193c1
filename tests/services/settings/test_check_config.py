"""`isocenter serve --check-config`: it says what a start would, and leaves everything as it is."""

from __future__ import annotations

from pathlib import Path

from support.processes import isocenter_command, served_archive

CONFIGURATION = """
[server]
ae_title = "{}"
capture = "captures"
[storage]
data_dir = "data"
[worklist]
folder = "worklist"
[hl7]
enabled = true
"""


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below *folder*, as it is."""
    return {
        str(path): (status.st_mtime_ns, status.st_size, status.st_mode)
        for path in sorted(folder.rglob("*"))
        for status in (path.lstat(),)
    }


def check(folder: Path, ae_title: str = "ISOCENTER") -> str:
    config = folder / "isocenter.toml"
    config.write_text(CONFIGURATION.format(ae_title), "utf-8")
    before = tree(folder)
    done = isocenter_command("serve", "--config", config, "--check-config")
    assert tree(folder) == before
    assert done.returncode == 0, done.stdout
    assert "the configuration is good" in done.stdout
    return done.stdout


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    said = check(tmp_path)
    assert f"made or renewed in {tmp_path / 'data' / 'certs'} by the start" in said


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "certs"
    made = isocenter_command("certs", "init", "--ca-dir", folder)
    assert made.returncode == 0, made.stdout
    # There is no certificate of the server yet, and no list of revoked ones to be mended.
    (folder / "crl.pem").unlink()
    assert "by the start" in check(tmp_path)


def test_what_a_start_has_made_is_shown(tmp_path: Path) -> None:
    with served_archive(tmp_path, tls=True):
        pass
    folder = tmp_path / "data" / "certs"
    assert f"CA {folder / 'ca.crt'}" in check(tmp_path)
    # A start would sign a certificate for the new AE title.
    assert "by the start" in check(tmp_path, "OTHER")


def test_a_CA_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "certs"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "ca.crt").write_text("no certificate", "ascii")
    config = tmp_path / "isocenter.toml"
    config.write_text(CONFIGURATION.format("ISOCENTER"), "utf-8")
    done = isocenter_command("serve", "--config", config, "--check-config")
    assert done.returncode == 2
    assert str(folder) in done.stdout


def test_a_former_name_is_told_of_in_the_log(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text('[sharing]\ntime_zone = "UTC"\n')
    done = isocenter_command("serve", "--config", config, "--check-config")
    assert done.returncode == 0, done.stdout
    assert "sharing.time_zone is called server.time_zone now" in done.stdout


def test_what_should_be_known_is_told_of_in_the_log(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(
        '[access]\nenforce = "never"\n'
        '[signatures]\nsign_key = "none.pem"\nsign_certificate = "none.crt"\n'
        '[[rules]]\nname = "reports"\nsign = true\n'
    )
    done = isocenter_command("serve", "--config", config, "--check-config")
    assert done.returncode == 0, done.stdout
    assert "access.enforce is never" in done.stdout
    assert "nothing can be signed: signatures.sign_key" in done.stdout
