"""`isocenter ae`, `user` and `reload` on the command line."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.security.access import passwords
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, PolicyFile
from isocenter.services.security.access.rejected_callers import RejectedFile
from isocenter.services.security.certificates.authority import CertificateAuthority
from services.security.access.policy_support import CT
from services.security.access.test_rejected import caller

#: The user ID that owns nothing.
NOBODY = 65_534


class Cli:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.file = PolicyFile(self.data_dir / ACCESS_FOLDER)
        self._capsys = capsys

    def __call__(self, line: str, code: int = 0) -> str:
        """What it prints; *line* is without ``isocenter`` and ``--data-dir``."""
        words = shlex.split(line)
        words[2:2] = ["--data-dir", str(self.data_dir)]
        if words[0] == "reload":
            words = ["reload", "--data-dir", str(self.data_dir)]
        assert main(words) == code
        said = self._capsys.readouterr()
        return said.out + said.err


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path, capsys)


def test_from_the_first_entity_on_nobody_else_is_admitted(cli: Cli) -> None:
    said = cli("ae list")
    assert "no policy is enforced" in said
    assert "no --config: access.enforce is taken for auto" in said
    assert "admitted, for everything" in cli("ae test CT1")
    said = cli("ae add CT1 --address 127.0.0.1")
    assert "CT1 may: C-ECHO C-STORE C-FIND" in said
    assert "any other AE title is rejected" in said
    assert "any other" not in cli("ae add CT2 --role Viewer")
    assert "admitted, for C-ECHO C-STORE" in cli("ae test CT1")
    said = cli("ae test MR1", code=1)
    assert said.splitlines() == [
        "rejected (1/1/3): calling AE title 'MR1' is not in the policy",
        "to admit it: isocenter ae add MR1 --address 127.0.0.1",
    ]
    # Word for word.
    cli("ae add MR1 --address 127.0.0.1")
    cli("ae test MR1")
    assert "is there already" in cli("ae add MR1", code=1)


def test_an_entity_for_a_user(cli: Cli) -> None:
    assert "is for the user 'alice', and there is none" in cli("ae add WS1 --user alice", code=1)
    cli("user add alice --role Viewer --without-passcode")
    assert "WS1 may: C-ECHO C-FIND N-GET N-EVENT-REPORT" in cli("ae add WS1 --user alice")
    assert "alice" in cli("ae list")
    assert "user           alice" in cli("ae show WS1")
    assert "admitted, for C-ECHO C-FIND" in cli("ae test WS1")
    assert "is for the user 'alice'" in cli("user remove alice", code=1)
    cli("user deactivate alice")
    assert "the user behind 'WS1' was deactivated" in cli("ae test WS1", code=1)
    listed = cli("ae list")
    assert re.search(r"^WS1 +user off ", listed, re.MULTILINE), listed
    assert "bob is not the user of WS1" in cli("ae deny WS1 --user bob", code=1)
    cli("ae deny WS1 --user alice")
    assert "WS1 may: C-ECHO\n" in cli("ae allow WS1")
    cli("ae allow WS1 --role Viewer")
    cli("user remove alice")


@pytest.mark.parametrize(
    ("enforce", "without", "added", "stranger"),
    [
        ("always", "nobody may associate", "CT1 may", 1),
        ("never", "no policy is enforced", "is not enforced: access.enforce is never", 0),
    ],
)
def test_enforcement_is_a_setting(
    cli: Cli, enforce: str, without: str, added: str, stranger: int
) -> None:
    config = cli.folder / "c.toml"
    config.write_text(f'[access]\nenforce = "{enforce}"\n')
    given = f"--config {config}"
    said = cli(f"ae list {given}")
    assert without in said
    assert "no --config" not in said
    cli(f"ae test MR1 {given}", code=stranger)
    said = cli(f"ae add CT1 {given}")
    assert added in said
    assert "enforced from now on" not in said
    cli(f"ae test MR1 {given}", code=stranger)
    assert without in cli(f"ae remove CT1 {given}")


def test_an_entity_by_its_certificate(cli: Cli) -> None:
    ca = CertificateAuthority.create(cli.folder / "ca")
    for name in ("CT1", "WS7"):
        ca.issue(name, folder=cli.folder)
    ct1, ws7 = (f"--certificate {cli.folder}/{name}.crt" for name in ("CT1", "WS7"))
    cli(f"ae add CT1 {ct1}")
    cli(f"ae test CT1 {ct1}")
    assert "over TLS only" in cli("ae test CT1", code=1)
    said = cli(f"ae test CT1 {ws7}", code=1)
    assert "does not own the calling AE title 'CT1'" in said
    cure = said.splitlines()[-1].partition("isocenter ")[2]
    cli(cure)
    cli(f"ae test CT1 {ws7}")
    assert "2 certificates" in cli("ae list")
    cli(f"ae deny CT1 {ws7}")
    cli(f"ae test CT1 {ws7}", code=1)
    assert "has no other certificate" in cli(f"ae deny CT1 {ct1}", code=1)
    cli(f"ae test CT1 {ct1}")
    subject = ca.certificate.subject.rfc4514_string()
    cli(f"ae add 'MR*' --issuer '{subject}' --sop-class MRImageStorage")
    said = cli(f"ae test MR5 {ws7}")
    assert "on MR Image Storage" in said
    assert f"issuer {subject}" in cli("ae show 'MR*'")
    assert "holds no certificate" in cli(f"ae add X --certificate {cli.folder}/CT1.key", code=1)


def test_allow_and_deny(cli: Cli) -> None:
    cli("ae add WS --role Viewer --sop-class CTImageStorage")
    assert "C-MOVE" not in cli("ae test WS")
    assert "C-MOVE" in cli("ae allow WS C-MOVE")
    assert "C-FIND" not in cli("ae deny WS metadata:read")
    assert "C-FIND" in cli("ae allow WS metadata:read")
    assert "C-MOVE" in cli("ae allow WS --role Radiologist")
    assert "C-MOVE" not in cli("ae deny WS study:export")
    cli("ae allow WS study:export")
    assert "N-DELETE" not in cli("ae allow WS study:delete"), "no service performs it"
    cli("ae deny WS study:delete")
    assert "turned away from now on" in cli("ae deny WS")
    assert "denied by the policy" in cli("ae test WS", code=1)
    cli("ae allow WS")
    cli("ae test WS")
    entity = cli.file.read().entities[0]
    assert entity.sop_classes == {CT}
    assert entity.roles == ("Viewer", "Radiologist")
    shown = cli("ae show WS")
    assert "denied         study:delete" in shown
    assert "CT Image Storage" in shown


def test_roles_are_shown_made_and_replaced(cli: Cli) -> None:
    assert "Viewer         study:read metadata:read" in cli("ae role")
    assert "no role 'Reader'" in cli("ae role Reader", code=1)
    cli("ae role Reader C-FIND C-GET")
    assert "Reader         study:read+export metadata:read" in cli("ae role Reader")
    assert "RESOURCE:ACTION" in cli("ae role Reader C-FLY", code=1)
    said = cli("ae add WS --role Reader")
    assert said.startswith("WS may: C-ECHO C-FIND C-MOVE C-GET")
    cli("ae role Reader C-FIND")
    assert "C-GET" not in cli("ae test WS")


def test_the_last_one_that_is_removed_opens_the_doors_and_says_so(cli: Cli) -> None:
    cli("ae add CT1")
    cli("ae add CT2")
    assert "no policy" not in cli("ae remove CT1")
    assert "it was the last one: no policy is enforced" in cli("ae remove CT2")
    assert "is not in the policy" in cli("ae remove CT2", code=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ae add TOO_LONG_FOR_AN_AE", "is no AE title"),
        ("ae add CT1 --role King", "no role 'King'; there are Viewer"),
        ("ae add CT1 --address 10.0.0.300", "no address or network"),
        ("ae add CT1 --sop-class Nonsense", "keyword as CTImageStorage"),
        ("ae add CT1 --sop-class generate_uid", "keyword as CTImageStorage"),
        ("ae add CT1 --fingerprint 12:34", "64 hexadecimal digits"),
        ("ae add CT1 --certificate /nonexistent", "no such file"),
        ("ae allow CT1 C-STORE", "is not in the policy"),
        ("user passwd alice --passcode-file /nonexistent", "No such file"),
        ("user deactivate alice", "no user 'alice'"),
        ("user add alice", "give --passcode-file"),
        ("user add alice --no-passcode --role King", "no role 'King'"),
        ("reload", "no server runs"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(cli: Cli, line: str, said: str) -> None:
    assert said in cli(line, code=1)
    assert not cli.file.path.exists()


def test_who_was_turned_away(cli: Cli) -> None:
    assert "nobody was turned away" in cli("ae rejected")
    strange = caller(1, "10.0.0.1\x1b[2J", "CT")
    RejectedFile(cli.file.folder).add([strange, strange, caller(2)])
    said = cli("ae rejected")
    assert "AE2 at 10.1.0.2 calling ARCHIVE: once" in said
    assert "AE1 at 10.0.0.1\\x1b[2J calling ARCHIVE, certificate CT: 2 times since" in said
    assert "forgot 2 callers" in cli("ae rejected --clear")
    assert "nobody" in cli("ae rejected")


def test_users(cli: Cli) -> None:
    secret = cli.folder / "secret"
    secret.write_text("correct horse\n")
    cli(f"user add alice --role Radiologist --passcode-file {secret}")
    cli("user add carol --no-passcode --subject carol@example.org")
    assert "carol already" in cli("user add eve --no-passcode --subject carol", code=1)
    assert "is there already" in cli("user add alice --no-passcode", code=1)
    said = cli("user list")
    assert said.splitlines() == [
        "alice: Radiologist, by passcode",
        "carol: no role, by token or ticket as carol@example.org",
    ]
    alice = cli.file.read().user("alice")
    assert alice is not None
    assert passwords.verify_passcode(alice.password_hash, b"correct horse")
    assert b"correct" not in cli.file.path.read_bytes()
    secret.write_text("battery staple")
    cli(f"user passwd alice --passcode-file {secret}")
    cli("user role alice Viewer")
    cli("user deactivate alice")
    alice = cli.file.read().user("alice")
    assert alice is not None
    assert passwords.verify_passcode(alice.password_hash, b"battery staple")
    assert (alice.roles, alice.active) == (("Viewer",), False)
    assert "not active" in cli("user list")
    cli("user activate alice")
    cli("user remove carol")
    assert [one.name for one in cli.file.read().users] == ["alice"]
    assert cli.file.read().users[0].active


def test_one_time_codes_are_switched_on_and_off(cli: Cli) -> None:
    cli("user add carol --no-passcode --role Viewer")
    assert b"totp" not in cli.file.path.read_bytes(), "programs from before read it"
    said = cli("user totp carol")
    carol = cli.file.read().user("carol")
    assert carol is not None
    assert carol.totp_secret
    assert f"otpauth://totp/ISOCENTER:carol?secret={carol.totp_secret}" in said
    assert carol.totp_secret not in repr(carol)
    assert "one-time code" in cli("user list")
    assert carol.totp_secret not in cli("user list")
    cli("user totp carol --off")
    carol = cli.file.read().user("carol")
    assert carol is not None
    assert not carol.totp_secret
    assert "no user 'dave'" in cli("user totp dave", code=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_files_that_the_server_can_read(cli: Cli) -> None:
    """An operator may be root; what is made belongs to whoever owns the data directory."""
    cli.data_dir.mkdir()
    os.chown(cli.data_dir, NOBODY, NOBODY)
    cli("ae add CT1")
    made = [cli.file.folder, *cli.file.folder.iterdir()]
    assert {path.name for path in made} == {"access", ".lock", "policy.json"}
    assert {path.stat().st_uid for path in made} == {NOBODY}
