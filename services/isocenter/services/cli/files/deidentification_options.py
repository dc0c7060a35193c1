"""Options of commands that de-identify: profile, key and mapping."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path
from isocenter.services.dicom.deidentification.device_rules import (
    DeviceRule,
    DeviceRuleError,
    parse_device_rules,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import PixelOptions, UnknownPolicy
from isocenter.services.dicom.deidentification.profile import (
    PROFILES,
    CustomRule,
    DocumentPolicy,
    PrivatePolicy,
    Profile,
    ProfileError,
    parse_option_names,
    profile_named,
)
from isocenter.services.dicom.deidentification.pseudonyms import (
    UUID_ROOT,
    PseudonymError,
    Pseudonyms,
    UidMap,
    check_uid_root,
    new_key,
    parse_key,
)
from isocenter.services.dicom.deidentification.rules import Action
from isocenter.services.dicom.deidentification.text_recognition import TextPolicy
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    SecretFileError,
    read_secret,
    write_file,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MOST_MAPPING_BYTES: Final = 1 << 30


class _AddRule(argparse.Action):
    """Adds what is to become of an attribute, whatever the profile says."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, sign, value = str(values).partition("=")
        try:
            sequences, tag = parse_attribute_path(name.strip())
        except KeySyntaxError as error:
            parser.error(f"argument {option_string}: {error}")
        if sequences:
            parser.error(
                f"argument {option_string}: give a tag or keyword; it counts wherever it is"
            )
        if bool(sign) is not (self.const is Action.REPLACE):
            form = "TAG=VALUE" if self.const is Action.REPLACE else "TAG"
            parser.error(f"argument {option_string}: expected {form}")
        namespace.rules = {**(namespace.rules or {}), tag: CustomRule(self.const, value)}


def add_deidentification_options(parser: CommandParser) -> None:
    """The options that say how objects are de-identified."""
    group = parser.add_argument_group("what becomes of the attributes")
    group.add_argument(
        "-p", "--profile", default="basic", metavar="NAME", help=f"one of {', '.join(PROFILES)}"
    )
    group.add_argument(
        "--config", type=Path, metavar="FILE",
        help="settings of an archive, whose projects ([[deidentification]]) are profiles, too, and "
        "bring their keys",
    )  # fmt: skip
    group.add_argument(
        "--options", default="", metavar="A,B",
        help="options of the standard beside those of the profile: "
        + ", ".join(option.value for option in Option),
    )  # fmt: skip
    group.add_argument(
        "--private", choices=[policy.value for policy in PrivatePolicy],
        help="private elements: remove them (default), keep those known to be safe, remove all but "
        "their creators, keep all",
    )  # fmt: skip
    for flags, action, metavar, text in (
        (
            ("-k", "--keep"),
            Action.KEEP,
            "TAG",
            "keep an attribute as it is, whatever the profile says",
        ),
        (("-r", "--replace"), Action.REPLACE, "TAG=VALUE", "give it a value, where it is there"),
        (("--remove",), Action.REMOVE, "TAG", "remove it"),
        (("--empty",), Action.EMPTY, "TAG", "leave it without a value"),
        (("--clean",), Action.CLEAN, "TAG", "keep of its text what does not look like the patient"),
        (("--hash",), Action.HASH, "TAG", "put a keyed hash in its place"),
        (("--encrypt",), Action.ENCRYPT, "TAG", "encrypt its value with the key (AES-256-GCM)"),
        (("--shift",), Action.SHIFT_DATE, "TAG", "move its date with the others of the patient"),
    ):
        group.add_argument(
            *flags, dest="rules", action=_AddRule, const=action, metavar=metavar, help=text
        )
    group.add_argument("--patient-id", default="", metavar="ID", help="of every patient")
    group.add_argument("--patient-name", default="", metavar="NAME", help="of every patient")
    group.add_argument(
        "--retain-uid", "--retain-uids", dest="retains_uids", action="store_true",
        help="keep UIDs: the same as --options uids",
    )  # fmt: skip
    group.add_argument(
        "--date-offset", type=int, metavar="DAYS",
        help="move all dates by so many days: takes --options modified with it",
    )  # fmt: skip
    group.add_argument(
        "--weekdays", action="store_true", help="move dates by whole weeks, so that weekdays stay"
    )
    group.add_argument(
        "--documents", choices=[policy.value for policy in DocumentPolicy],
        help="encapsulated documents, and voices: refuse such files (default), replace, keep",
    )  # fmt: skip
    group.add_argument(
        "--video", choices=("refuse", "keep"), help="the same of video, which is never replaced"
    )
    group.add_argument(
        "--known", type=Path, metavar="FILE",
        help="names and numbers, one a line, that no text may say, beside those of each file",
    )  # fmt: skip
    group = parser.add_argument_group("what becomes of the pixels, with --options pixels")
    group.add_argument(
        "--pixel-rules", type=Path, metavar="FILE",
        help="rules of devices beside those that are known: conditions, a tab, regions",
    )  # fmt: skip
    group.add_argument(
        "--unknown", choices=[policy.value for policy in UnknownPolicy], default="quarantine",
        help="images that may name the patient, and for which there is no rule: refuse them "
        "(default), or accept them as they are",
    )  # fmt: skip
    group.add_argument(
        "--text", choices=[policy.value for policy in TextPolicy], default="off",
        help="look for text in every frame (extra ocr), and refuse the image, blacken the text, or "
        "only say so",
    )  # fmt: skip
    group = parser.add_argument_group("key and mapping")
    group.add_argument(
        "--key-file", type=Path, metavar="FILE",
        help="the key of which pseudonyms are made: the same key, the same pseudonyms",
    )  # fmt: skip
    group.add_argument(
        "--new-key", type=Path, metavar="FILE", help="make a key, keep it in FILE, and use it"
    )
    group.add_argument(
        "-m", "--mapping-file", type=Path, metavar="FILE",
        help="UIDs and their pseudonyms as JSON: read where it is there, written at the end",
    )  # fmt: skip
    group.add_argument(
        "--encrypt-for", type=Path, metavar="FILE",
        help="certificates in PEM: the originals go along, encrypted for those who have their keys",
    )  # fmt: skip
    group.add_argument(
        "--uid-root", default="", metavar="ROOT", help="where new UIDs are made; default 2.25"
    )


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The profile that the options mean.

    Raises:
        UsageError: they mean none.
    """
    try:
        project = project_of(arguments)
        profile = profile_named(arguments.profile) if project is None else project.profile
        options = profile.options | parse_option_names(filter(None, arguments.options.split(",")))
        if arguments.retains_uids:
            options |= {Option.UIDS}
        if arguments.date_offset is not None or arguments.weekdays:
            options |= {Option.MODIFIED_DATES}
        private = PrivatePolicy(arguments.private) if arguments.private else profile.private
        if Option.PRIVATE in options and not arguments.private:
            private = PrivatePolicy.SAFE
        if private is PrivatePolicy.SAFE:
            options |= {Option.PRIVATE}
        made = replace(
            profile,
            options=options,
            private=private,
            custom={**profile.custom, **(arguments.rules or {})},
            patient_id=arguments.patient_id or profile.patient_id,
            patient_name=arguments.patient_name or profile.patient_name,
            documents=DocumentPolicy(arguments.documents or profile.documents.value),
            video=DocumentPolicy(arguments.video or profile.video.value),
        )
        made.check()
    except ProfileError as error:
        raise UsageError(str(error)) from None
    return made


def project_of(arguments: argparse.Namespace) -> Project | None:
    """The project of the settings that the profile names; None: it is none.

    Raises:
        UsageError: the settings cannot be read.
    """
    if arguments.config is None:
        return None
    from isocenter.services.settings.errors import SettingsError
    from isocenter.services.settings.loading import load_settings

    try:
        settings = load_settings(config_file=arguments.config)
    except SettingsError as error:
        raise UsageError(f"--config: {error}") from None
    found = {project.name: project for project in settings.deidentification}
    project = found.get(arguments.profile)
    if project is not None and project.key_file is None and not settings.storage.is_in_memory:
        made = Path(settings.storage.data_dir) / "deidentification" / f"{project.name}.key"
        project = replace(project, key_file=made if made.exists() else None)
    return project


def pixel_options_of(arguments: argparse.Namespace) -> PixelOptions:
    """How the options want pixels to be cleaned.

    Raises:
        UsageError: the rules cannot be read.
    """
    project = project_of(arguments)
    if project is not None and arguments.pixel_rules is None:
        return project.pixels
    rules: tuple[DeviceRule, ...] = ()
    path: Path | None = arguments.pixel_rules
    if path is not None:
        try:
            rules = parse_device_rules(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, DeviceRuleError) as error:
            why = text_of(error) if isinstance(error, OSError) else str(error)
            raise UsageError(f"--pixel-rules {path}: {why}") from None
    return PixelOptions(
        rules=rules, unknown=UnknownPolicy(arguments.unknown), text=TextPolicy(arguments.text)
    )


def known_words(path: Path | None) -> tuple[str, ...]:
    """The lines of a file.

    Raises:
        UsageError: it cannot be read.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = text_of(error) if isinstance(error, OSError) else "is no text in UTF-8"
        raise UsageError(f"--known {path}: {why}") from None
    return tuple(filter(None, map(str.strip, lines)))


def recipients_of(path: Path | None) -> Sequence[Certificate]:
    """The certificates in a file.

    Raises:
        UsageError: there are none that can be used.
    """
    if path is None:
        return ()
    from isocenter.services.dicom.deidentification.encrypted_attributes import (
        EncryptionError,
        load_recipients,
    )

    try:
        return load_recipients(path.read_bytes())
    except (OSError, EncryptionError) as error:
        raise UsageError(f"--encrypt-for {path}: {text_of(error)}") from None


def pseudonyms_of(arguments: argparse.Namespace) -> Pseudonyms:
    """The pseudonyms of the key and the mapping that the options name.

    Raises:
        UsageError: one of them cannot be used.
    """
    if arguments.new_key is not None and arguments.key_file is not None:
        raise UsageError("--new-key makes a key, --key-file takes one: choose one of them")
    project = project_of(arguments)
    days, weekdays, root = arguments.date_offset, arguments.weekdays, arguments.uid_root
    if days == 0:
        raise UsageError("--date-offset 0 moves nothing; --options full retains dates")
    key_file = arguments.key_file
    if project is not None:
        days = project.days if days is None else days
        weekdays, root = weekdays or project.weekdays, root or project.uid_root
        key_file = key_file or project.key_file
        if key_file is None and arguments.new_key is None:
            raise UsageError(
                f"the project {project.name} has no key yet, and pseudonyms of another one would "
                "not be its own: start isocenter serve once, which makes it, or give --key-file"
            )
    try:
        if key_file is not None and arguments.new_key is None:
            key = parse_key(read_secret(key_file))
        else:
            key = new_key()
        if arguments.new_key is not None:
            if arguments.new_key.exists():
                raise UsageError(f"{arguments.new_key} is there already; --key-file takes it")
            write_file(arguments.new_key, key.hex().encode() + b"\n", PRIVATE_FILE, replace=False)
        uids = _read_mapping(arguments.mapping_file, root)
    except SecretFileError as error:
        raise UsageError(f"--key-file: {error}") from None
    except PseudonymError as error:
        raise UsageError(str(error)) from None
    return Pseudonyms(key, uids, days=days, keeps_weekdays=weekdays)


def _read_mapping(path: Path | None, uid_root: str) -> UidMap:
    if path is None or not path.exists():
        return UidMap(check_uid_root(uid_root or UUID_ROOT))
    if path.stat().st_size > _MOST_MAPPING_BYTES:
        raise UsageError(f"--mapping-file {path}: longer than 1 GiB")
    try:
        uids = UidMap.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        what = text_of(error) if isinstance(error, OSError) else f"is no mapping: {error}"
        raise UsageError(f"--mapping-file {path}: {what}") from None
    if uid_root:
        uids.uid_root = check_uid_root(uid_root)
    return uids


def write_mapping(path: Path, uids: UidMap) -> None:
    """Keep *uids* in a file that only its owner can read.

    Raises:
        OSError: it cannot be written.
    """
    content = json.dumps(uids.to_json(), indent=1).encode("utf-8") + b"\n"
    write_file(path, content, PRIVATE_FILE, replace=True)
