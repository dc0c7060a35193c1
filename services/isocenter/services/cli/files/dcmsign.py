"""``isocenter dcmsign``: digital signatures of DICOM files made, verified, taken away."""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.dicom_input import dicom_input
from isocenter.services.cli.files.file_tool import (
    EXIT_INVALID,
    FileToolError,
    InputFile,
    OtherFileKindError,
    Plan,
    add_file_options,
    for_each,
    input_files,
    output_file,
    run_file_tool,
)
from isocenter.services.cli.files.in_place import back_up, in_place_plan, without_backups
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.attribute_path import path_text
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.data_set_file import DataSetFile, is_directory
from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.signatures.algorithms import SIGNING_ALGORITHMS, SignatureError
from isocenter.services.dicom.signatures.certificates import (
    Trust,
    read_certificates,
    read_key,
    read_revocation_list,
)
from isocenter.services.dicom.signatures.profiles import PURPOSES, Profile
from isocenter.services.dicom.signatures.signing import Signer, remove, sign, there
from isocenter.services.dicom.signatures.timestamps import (
    QUERY_TYPE,
    stamped,
    timestamp_query,
)
from isocenter.services.dicom.signatures.verification import (
    SignatureState,
    VerifiedSignature,
    verify_signatures,
)
from isocenter.services.dicom.tag_pattern import TagPattern, parse_tag_pattern
from isocenter.services.system.log_format import escape
from isocenter.services.system.private_files import open_private

DESCRIPTION: Final = """\
Sign DICOM files, and verify or remove their digital signatures (PS3.15 Annex C).  With --key and
--cert files are signed; else they are verified.  Pixel data is not loaded.  A file is signed in its
place, and what it was is kept beside it as FILE.bak, unless -nb or -o says otherwise."""
EXAMPLES: Final = """\
examples:
  isocenter dcmsign ct.dcm -o signed.dcm --key key.pem --cert cert.pem --profile creator
  isocenter dcmsign report.dcm --key key.pem --cert cert.pem --profile sr-verification
  isocenter dcmsign rt.dcm --key key.pem --cert cert.pem --item "(300A,0010)[0]"
  isocenter dcmsign --verify signed.dcm --ca ca.pem --crl crl.pem
  isocenter dcmsign --verify -r study/ --ca ca.pem --json
  isocenter dcmsign --remove all signed.dcm -o plain.dcm

Without --ca only that nothing was changed is verified, not who signed: anybody can sign.

exit codes: 0 all is done, or every signature is valid; 1 arguments; 2 a file is not there, is no
DICOM, cannot be signed, has a signature that is not valid, or has none (unless --if-present)"""

_ALL: Final = "all"
_STAMP_SECONDS: Final = 30
_MOST_REPLY: Final = 1 << 20
#: Of what is signed beside a signature, so many tags are named.
_NAMED: Final = 8
_Read = TypeVar("_Read")


def add_arguments(parser: CommandParser) -> None:
    """The options of dcmsign."""
    add_file_options(
        parser,
        what="DICOM files, folders with -r, - for standard input",
        output="the signed files, or those without signatures",
    )
    group = parser.add_argument_group("what to do")
    group.add_argument(
        "--verify", action="store_true", help="verify all signatures (default without --key)"
    )
    group.add_argument(
        "--remove", metavar="UID", help="take away the signature of this UID, or: all"
    )
    group = parser.add_argument_group("to sign")
    group.add_argument("--key", type=Path, metavar="F", help="private key, PEM or DER")
    group.add_argument("--cert", type=Path, metavar="F", help="certificate of that key, PEM or DER")
    group.add_argument(
        "--key-password-file", type=Path, metavar="F", help="holds the password of the key"
    )
    group.add_argument(
        "--profile", choices=[one.value for one in Profile], default=Profile.BASE.value,
        help="what has to be signed at least (default base)",
    )  # fmt: skip
    group.add_argument(
        "--mac", choices=[one.lower() for one in SIGNING_ALGORITHMS], default="sha256",
        help="MAC algorithm (default sha256)",
    )  # fmt: skip
    group.add_argument("--purpose", type=int, metavar="N", help="purpose of the signature, 1 to 18")
    group.add_argument("--list-purposes", action="store_true", help="list the purposes")
    group.add_argument(
        "-t", "--tag", action="append", metavar="TAG",
        help="sign this attribute (repeatable; default: all that may be signed)",
    )  # fmt: skip
    group.add_argument(
        "--item", metavar="PATH", help="sign this item of a sequence, as (0040,A730)[0]"
    )
    group.add_argument("--tsa", metavar="URL", help="have the signature stamped there (RFC 3161)")
    group.add_argument(
        "--dump", type=Path, metavar="F", help="write the bytes that the MAC covers, of one file"
    )
    group.add_argument(
        "-nb", "--no-backup", dest="has_backup", action="store_false",
        help="keep nothing of a file that is signed in its place",
    )  # fmt: skip
    group = parser.add_argument_group("to verify")
    for flag, what in (
        ("--ca", "certificates that are trusted, of authorities or signers"),
        ("--chain", "certificates between them and the signers"),
        ("--crl", "certificate revocation lists"),
        ("--tsa-ca", "certificates that are trusted for time stamps (default: as --ca)"),
    ):
        group.add_argument(
            flag, type=Path, action="append", metavar="F", help=f"{what} (repeatable)", default=[]
        )
    group.add_argument(
        "--accept-weak", action="store_true",
        help="MD5, SHA-1 and RIPEMD-160 are as good as others",
    )  # fmt: skip
    group.add_argument(
        "--if-present", action="store_true", help="a file without signatures is well"
    )
    group.add_argument("--json", action="store_true", help="one JSON object for each file")


def run(arguments: argparse.Namespace) -> int:
    """Sign, verify or remove; the exit code."""

    def work(terminal: Terminal) -> int:
        files = input_files(arguments.paths, recursive=arguments.recursive)
        progress = not arguments.no_progress
        is_signing = arguments.key is not None or arguments.cert is not None
        if sum((arguments.verify, arguments.remove is not None, is_signing)) > 1:
            raise UsageError("sign with --key and --cert, or --verify, or --remove: one at a time")
        if is_signing or arguments.remove is not None:
            change = _Change(arguments, terminal, _signer(arguments) if is_signing else None)
            return for_each(
                terminal, without_backups(files), change.change, title="signing", progress=progress
            )
        if arguments.output is not None:
            raise UsageError("to verify writes no file; to sign takes --key and --cert")
        verify = _Verify(arguments, terminal)
        code = for_each(terminal, files, verify.look, title="verifying", progress=progress)
        return code or (EXIT_INVALID if verify.has_failed else 0)

    if arguments.list_purposes:
        for number, text in PURPOSES.items():
            print(f"{number:>3}  {text}")
        return 0
    return run_file_tool(arguments, work)


# -- To sign -----------------------------------------------------------------------------


def _signer(arguments: argparse.Namespace) -> Signer:
    if arguments.key is None or arguments.cert is None:
        raise UsageError("to sign takes both --key and --cert")
    password: bytes | None = None
    if arguments.key_password_file is not None:
        password = _read(arguments.key_password_file, lambda raw: raw.rstrip(b"\r\n"))
    certificates = _read(arguments.cert, read_certificates)
    key = _read(arguments.key, lambda raw: read_key(raw, password))
    try:
        return Signer(
            key=key,
            certificate=certificates[0],
            mac_algorithm=arguments.mac.upper(),
            profile=Profile(arguments.profile),
            purpose=arguments.purpose,
            timestamp=_stamping(arguments.tsa) if arguments.tsa else None,
        )
    except SignatureError as error:
        raise UsageError(str(error)) from error


def _read(path: Path, read: Callable[[bytes], _Read]) -> _Read:
    try:
        return read(path.read_bytes())
    except SignatureError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _stamping(url: str) -> Callable[[bytes], bytes]:
    if not url.lower().startswith(("http://", "https://")):
        raise UsageError("--tsa takes a URL, http://… or https://…")

    def stamp(signature: bytes) -> bytes:
        query = timestamp_query(signature)
        try:
            headers = {"Content-Type": QUERY_TYPE}
            request = urllib.request.Request(url, query.body, headers)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_STAMP_SECONDS) as reply:  # noqa: S310
                raw = reply.read(_MOST_REPLY)
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", "") or str(error) or type(error).__name__
            raise FileToolError(f"--tsa {url}: {why}") from error
        except ValueError as error:
            raise UsageError(f"--tsa {url}: {error}") from error
        return stamped(query, raw)

    return stamp


class _Change:
    """Signs files, or takes signatures away."""

    def __init__(
        self, arguments: argparse.Namespace, terminal: Terminal, signer: Signer | None
    ) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._signer = signer
        self._made: Plan | None = in_place_plan(arguments)
        self._tags = None if arguments.tag is None else [_tag(text) for text in arguments.tag]
        self._item: TagPattern | None = None
        if arguments.item is not None:
            try:
                self._item = parse_tag_pattern(arguments.item)
            except ValueError as error:
                raise UsageError(f"--item: {error}") from error
            if self._item.item is None or not self._item.is_one:
                raise UsageError("--item takes the path of one item, as (0040,A730)[0]")

    def change(self, file: InputFile) -> None:
        with dicom_input(file, self._terminal, Tolerance.USUAL) as data_set:
            if is_directory(data_set):
                raise OtherFileKindError("is a DICOMDIR, which is not signed")
            tree = _tree(data_set)
            if self._signer is None:
                self._remove(file, tree)
            else:
                self._sign(file, tree, data_set, self._signer)
            tree.mend_group_lengths()
            place = file.path if self._made is None else self._made.output_of(file)
            with output_file(place) as target:
                target.write(data_set.head_bytes)
                write_tree(tree, target, deflated=data_set.encoding.deflated)
                target.flush()
                if self._made is None and self._arguments.has_backup:
                    back_up(place)

    def _sign(
        self, file: InputFile, tree: DataSetTree, data_set: DataSetFile, signer: Signer
    ) -> None:
        dump: Path | None = self._arguments.dump
        with ExitStack() as stack:
            watch: Callable[[Buffer], object] | None = None
            if dump is not None:
                watch = stack.enter_context(open_private(dump)).write
            made = sign(
                tree,
                tree.root if self._item is None else _item_at(tree, self._item),
                signer,
                transfer_syntax_uid=data_set.head.transfer_syntax_uid,
                now=datetime.now(UTC),
                tags=self._tags,
                watch=watch,
            )
        self._terminal.detail(f"{file.path}: signature {made.uid} of {len(made.tags)} attributes")

    def _remove(self, file: InputFile, tree: DataSetTree) -> None:
        uid: str = self._arguments.remove
        count = remove(tree, None if uid == _ALL else uid)
        if not count:
            raise FileToolError(
                "it has no signature" if uid == _ALL else f"it has no signature {uid}"
            )
        self._terminal.detail(f"{file.path}: {count} signatures removed")


def _tag(text: str) -> int:
    try:
        pattern = parse_tag_pattern(text)
    except ValueError as error:
        raise UsageError(f"--tag: {error}") from error
    if pattern.steps or pattern.item is not None:
        raise UsageError("--tag takes a tag or keyword; --item leads into sequences")
    return pattern.tag


def _tree(data_set: DataSetFile) -> DataSetTree:
    try:
        return DataSetTree(data_set.data, data_set.encoding)
    except DataSetError as error:
        raise FileToolError(f"damaged ({error}); dcmconv writes what can be read of it") from error


def _item_at(tree: DataSetTree, pattern: TagPattern) -> ItemNode:
    item = tree.root
    for tag, number in (*pattern.steps, (pattern.tag, pattern.item)):
        items = [each for node in item.all(tag) for each in there(node)]
        if number is None or number >= len(items):
            raise FileToolError(f"{tag_text(tag)} has no item {number}: it has {len(items)}")
        item = items[number]
    return item


# -- To verify ---------------------------------------------------------------------------


class _Verify:
    """Verifies files, and prints what came of it.

    Attributes:
        has_failed: whether one has no valid signature, or one that is not valid.
    """

    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self._is_json: bool = arguments.json
        self._may_have_none: bool = arguments.if_present
        self._terminal = terminal
        self._is_verbose = terminal.is_verbose
        chain = _certificates(arguments.chain)
        lists = [_read(path, read_revocation_list) for path in arguments.crl]
        self._trust = Trust(_certificates(arguments.ca), chain, lists) if arguments.ca else None
        self._timestamp_trust = (
            # Their authorities are others, and need not be those that the lists are about.
            Trust(_certificates(arguments.tsa_ca), chain, lists, needs_reach=False)
            if arguments.tsa_ca
            else None
        )
        if self._trust is None and (chain or lists):
            raise UsageError("--chain and --crl need --ca, which says whom to trust")
        self._accepts_weak: bool = arguments.accept_weak
        self.has_failed = False

    def look(self, file: InputFile) -> None:
        with dicom_input(file, self._terminal, Tolerance.USUAL) as data_set:
            if is_directory(data_set):
                raise OtherFileKindError("is a DICOMDIR, which is not signed")
            found = list(
                verify_signatures(
                    _tree(data_set),
                    transfer_syntax_uid=data_set.head.transfer_syntax_uid,
                    now=datetime.now(UTC),
                    trust=self._trust,
                    timestamp_trust=self._timestamp_trust,
                    accepts_weak=self._accepts_weak,
                )
            )
        if any(one.state is not SignatureState.VALID for one in found) or (
            not found and not self._may_have_none
        ):
            self.has_failed = True
        if self._is_json:
            print(json.dumps({"file": file.path, "signatures": list(map(_record, found))}))
            return
        if not found:
            _say(f"{file.path}: no signature")
        for one in found:
            self._print(file.path, one)

    def _print(self, path: str, one: VerifiedSignature) -> None:
        where = f" in {_place_text(one)}" if one.place else ""
        why = f": {one.why}" if one.why else ""
        # Names, purposes and UIDs are whatever somebody has put into the file.
        _say(f"{path}: signature {one.uid or '?'}{where}: {one.state.value}{why}")
        if one.signer is not None:
            who = ", ".join(filter(None, (one.signer.common_name, one.signer.organization)))
            _say(f"  by {who or '(no name)'}, certificate of {one.signer.issuer}")
        made = one.made_at.isoformat(timespec="seconds") if one.made_at else "at a time unknown"
        stamp = ""
        if one.timestamp is not None:
            stamp = f", time stamp {one.timestamp.isoformat(timespec='seconds')}"
        purpose = f", {one.purpose}" if one.purpose else ""
        profiles = ", ".join(profile.value for profile in one.profiles)
        _say(f"  made {made}{stamp}{purpose}, {one.mac_algorithm or 'no MAC'}; fits {profiles}")
        print(f"  covers {len(one.tags)} attributes{_unsigned_text(one.unsigned)}")
        for note in one.notes:
            print(f"  note: {note}")
        if self._is_verbose and one.signer is not None:
            print(f"  {one.signer.key}, SHA-256 {one.signer.thumbprint}")
            for tag in one.tags:
                print(f"    {tag_text(tag)} {keyword_for_tag(tag)}".rstrip())


def _say(line: str) -> None:
    print(escape(line))


def _unsigned_text(tags: Sequence[int]) -> str:
    if not tags:
        return ", all that may be signed"
    some = ", ".join(keyword_for_tag(tag) or tag_text(tag) for tag in tags[:_NAMED])
    more = f" and {len(tags) - _NAMED} more" if len(tags) > _NAMED else ""
    return f", and not {some}{more}"


def _place_text(one: VerifiedSignature) -> str:
    *outer, last = one.place
    return f"{path_text((tuple(outer), last[0]))}[{last[1]}]"


def _record(one: VerifiedSignature) -> dict[str, Any]:
    signer = one.signer
    return {
        "uid": one.uid,
        "place": _place_text(one) if one.place else "",
        "state": one.state.value,
        "why": one.why,
        "notes": list(one.notes),
        "made_at": one.made_at and one.made_at.isoformat(),
        "timestamp": one.timestamp and one.timestamp.isoformat(),
        "mac_algorithm": one.mac_algorithm,
        "purpose": one.purpose,
        "profiles": [profile.value for profile in one.profiles],
        "signed": [f"{tag:08X}" for tag in one.tags],
        "unsigned": [f"{tag:08X}" for tag in one.unsigned],
        "signer": None
        if signer is None
        else {
            "common_name": signer.common_name,
            "organization": signer.organization,
            "issuer": signer.issuer,
            "serial_number": f"{signer.serial_number:x}",
            "sha256": signer.thumbprint,
            "key": signer.key,
            "not_before": signer.not_before.isoformat(),
            "not_after": signer.not_after.isoformat(),
        },
    }


def _certificates(paths: Sequence[Path]) -> list[Any]:
    return [one for path in paths for one in _read(path, read_certificates)]
