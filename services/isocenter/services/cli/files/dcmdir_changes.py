"""Work of ``dcmdir create`` and ``dcmdir update``: directories that are made and changed."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from isocenter.engine.dataset import NotDicomError, write_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.export.targets import folder_target, write_whole
from isocenter.services.cli import EXIT_OK
from isocenter.services.cli.files.dcmdir_output import open_directory
from isocenter.services.cli.files.file_tool import (
    EXIT_INVALID,
    PIECE,
    InputFile,
    OtherFileKindError,
    for_each,
    input_files,
    output_file,
)
from isocenter.services.cli.support.directory_output import tell_additions
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.file_set.directory import (
    Directory,
    DirectoryRecord,
    FileSetError,
    new_directory,
)
from isocenter.services.dicom.file_set.directory_writer import encode_directory
from isocenter.services.dicom.file_set.file_ids import (
    DICOMDIR,
    FileId,
    fault_of,
    file_id_of,
    found_file,
    mapped_file_id,
    path_of,
)
from isocenter.services.dicom.file_set.file_scan import FileScan, scan_file
from isocenter.services.dicom.file_set.file_set_builder import DirectoryBuilder
from isocenter.services.dicom.file_set.profiles import PROFILES
from isocenter.services.dicom.file_set.record_building import SOP_CLASS_UID, SOP_INSTANCE_UID
from isocenter.services.dicom.uid_registry import name_of


@dataclass(slots=True)
class _Work:
    """What takes files into a directory."""

    arguments: argparse.Namespace
    terminal: Terminal
    builder: DirectoryBuilder
    root: Path

    def scan(self, file: InputFile, *, stays: bool) -> FileScan:
        """Look at a file.

        Args:
            stays: it is referenced as it is.
        """
        if file.path == "-":
            raise UsageError("a directory is made of files that stay; name them")
        try:
            found = scan_file(Path(file.path))
        except NotDicomError as error:
            raise OtherFileKindError(f"not DICOM: {error.fault}") from None
        profile = getattr(self.arguments, "profile", None)
        syntax = found.scan.transfer_syntax_uid
        if profile and syntax not in PROFILES[profile].transfer_syntaxes:
            raise FileSetError(
                f"is in {name_of(syntax)}, which {profile} does not have; "
                "convert it, or choose another --profile"
            )
        if stays and not found.has_meta:
            raise FileSetError(
                "has no File Meta Information that says its transfer syntax, as files of a "
                "file-set have to; create --copy writes one"
            )
        return found

    def copy(self, file: InputFile, found: FileScan, target: IO[bytes]) -> None:
        """The file as it is, with File Meta Information where it had none."""
        with open(file.path, "rb") as source:
            if not found.has_meta:
                scan = found.scan
                target.write(
                    write_file_meta(
                        scan.uid(SOP_CLASS_UID),
                        scan.uid(SOP_INSTANCE_UID),
                        scan.transfer_syntax_uid,
                    )
                )
                source.seek(found.data_set_offset)
            shutil.copyfileobj(source, target, PIECE)

    def relative(self, file: InputFile) -> str | None:
        """Its path below the root folder of the file-set; None: it is elsewhere."""
        path = Path(file.path).absolute()
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return None


def create(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """``dcmdir create``; the exit code."""
    paths: list[str] = arguments.paths or [str(Path(arguments.output or ".").parent)]
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"{path}: no such file or folder")
    directory = new_directory(arguments.file_set_id)
    builder = DirectoryBuilder(directory, is_strict=arguments.is_strict)
    if arguments.copy:
        if arguments.descriptor:
            raise UsageError("--descriptor names a file of the file-set; copy it there later")
        if arguments.output:
            raise UsageError("--copy makes the DICOMDIR of its folder; leave out -o")
        return _create_copy(arguments, terminal, builder, paths)
    place = _place_of(arguments, paths)
    work = _Work(arguments, terminal, builder, place.parent)
    renamed: list[tuple[Path, Path]] = []

    def take(file: InputFile) -> None:
        relative = work.relative(file)
        if relative is None:
            raise FileSetError(f"is not below {work.root}; --copy FOLDER copies it there")
        if Path(file.path).absolute() == place or relative.upper() == DICOMDIR:
            raise OtherFileKindError("the directory itself")
        mapped = mapped_file_id if arguments.map_filenames else file_id_of
        file_id = mapped(relative)
        fault = fault_of(file_id)
        found = work.scan(file, stays=True)
        if fault and not arguments.rename:
            raise FileSetError(
                f"its name {fault}; --rename renames it, --copy FOLDER copies all to names that "
                "conform"
            )
        record = builder.add(found.scan, () if fault else file_id)
        if fault:
            renamed.append((Path(file.path), work.root / path_of(record.file_id)))

    _set_descriptor(arguments, work)
    code = for_each(
        terminal, _files(arguments, paths), take, title="reading",
        progress=not arguments.no_progress,
    )  # fmt: skip
    if not builder.additions.added:
        terminal.error("no file could be taken into a directory; nothing was written")
        return EXIT_INVALID
    _rename(renamed)
    try:
        with output_file(str(place)) as target:
            target.write(encode_directory(directory))
    except BaseException:
        _rename([(new, old) for old, new in reversed(renamed)])
        raise
    print(f"{place}: {builder.additions.added} files")
    tell_additions(builder.additions, terminal)
    return code


def _set_descriptor(arguments: argparse.Namespace, work: _Work) -> None:
    """The descriptor file of a new directory, checked."""
    if not arguments.descriptor:
        return
    file_id = file_id_of(arguments.descriptor)
    fault = fault_of(file_id)
    if fault:
        raise UsageError(f"--descriptor: {arguments.descriptor} {fault} (PS3.10 8.5)")
    if found_file(work.root, file_id) is None:
        raise UsageError(f"--descriptor: there is no {arguments.descriptor}")
    work.builder.directory.descriptor = file_id
    work.builder.directory.descriptor_character_set = arguments.char_set


def _place_of(arguments: argparse.Namespace, paths: list[str]) -> Path:
    if arguments.output:
        place = Path(arguments.output)
        place = place / DICOMDIR if place.is_dir() else place
    else:
        folders = [path for path in paths if os.path.isdir(path)]
        if len(paths) != 1 or not folders:
            raise UsageError("which folder is the file-set's? Say with -o where the DICOMDIR goes")
        place = Path(paths[0], DICOMDIR)
    return place.absolute()


def _files(arguments: argparse.Namespace, paths: list[str]) -> Iterator[InputFile]:
    for path in paths:
        if not os.path.isdir(path) or arguments.recursive:
            yield from input_files([path], recursive=True)
        else:
            names = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
            for name in names:
                yield InputFile(os.path.join(path, name), name, is_found=True)


def _create_copy(
    arguments: argparse.Namespace, terminal: Terminal, builder: DirectoryBuilder, paths: list[str]
) -> int:
    root = Path(arguments.copy).absolute()
    work = _Work(arguments, terminal, builder, root)
    with folder_target(root) as target:

        def take(file: InputFile) -> None:
            if os.path.basename(file.path).upper() == DICOMDIR:
                raise OtherFileKindError("a directory")
            found = work.scan(file, stays=False)
            record = builder.add(found.scan)
            with target.begin(path_of(record.file_id), os.path.getsize(file.path)) as copy:
                work.copy(file, found, copy)

        code = for_each(
            terminal, _files(arguments, paths), take, title="copying",
            progress=not arguments.no_progress,
        )  # fmt: skip
        if not builder.additions.added:
            terminal.error("no file could be taken into a directory; nothing was written")
            return EXIT_INVALID
        write_whole(target, path_of((DICOMDIR,)), encode_directory(builder.directory))
        target.commit()
    print(f"{root / DICOMDIR}: {builder.additions.added} files")
    tell_additions(builder.additions, terminal)
    return code


def _rename(names: list[tuple[Path, Path]]) -> None:
    """Rename files, all or none."""
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in names:
            new.parent.mkdir(parents=True, exist_ok=True)
            if new.exists():
                raise FileSetError(f"{new} is there already")
            old.rename(new)
            done.append((old, new))
    except BaseException:
        for old, new in reversed(done):
            new.rename(old)
        raise


def update(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """``dcmdir update``, ``add`` and ``remove``; the exit code."""
    if not arguments.add and not arguments.delete:
        raise UsageError("what shall be changed? Give --add PATH or --delete REF")
    place = Path(arguments.directory).absolute()
    read = open_directory(arguments.directory)
    for finding in read.findings:
        terminal.note(f"{arguments.directory}: {finding}")
    directory = read.directory
    gone = _removed(directory, arguments.delete)
    builder = DirectoryBuilder(directory, is_strict=arguments.is_strict)
    work = _Work(arguments, terminal, builder, place.parent)
    copied: list[Path] = []

    def take(file: InputFile) -> None:
        relative = work.relative(file)
        if relative is not None and relative.upper() == DICOMDIR:
            raise OtherFileKindError("the directory itself")
        file_id: FileId = () if relative is None else file_id_of(relative)
        is_there = bool(file_id) and not fault_of(file_id)
        found = work.scan(file, stays=is_there)
        record = builder.add(found.scan, file_id if is_there else ())
        if not is_there:
            new = work.root / path_of(record.file_id)
            if new.exists():
                raise FileSetError(f"{new} is there already, and not in the directory; move it")
            with output_file(str(new)) as copy:
                copied.append(new)
                work.copy(file, found, copy)

    try:
        code = EXIT_OK
        if arguments.add:
            code = for_each(
                terminal, input_files(arguments.add, recursive=True), take, title="adding",
                progress=not arguments.no_progress,
            )  # fmt: skip
        with output_file(str(place)) as target:
            target.write(encode_directory(directory))
    except BaseException:
        for path in copied:
            with suppress(OSError):
                path.unlink()
        raise
    if getattr(arguments, "delete_files", False):
        for record in gone:
            found = found_file(work.root, record.file_id)
            if found is not None:
                found.unlink()
    print(f"{place}: {builder.additions.added} files added, {len(gone)} removed")
    tell_additions(builder.additions, terminal)
    return code


def _removed(directory: Directory, references: list[str]) -> list[DirectoryRecord]:
    """Take out what *references* name; the records of their files.

    Raises:
        UsageError: one of them names nothing.
    """
    gone: list[DirectoryRecord] = []
    for text in references:
        found = [
            (above, record)
            for above, record in directory.references()
            if _is_named(text, above, record)
        ]
        if not found:
            raise UsageError(f"the directory has nothing that is {text}; dcmdir list shows it")
        for above, record in found:
            directory.remove(record, above)
            gone.append(record)
    return gone


def _is_named(text: str, above: tuple[DirectoryRecord, ...], record: DirectoryRecord) -> bool:
    parts = file_id_of(text.replace("\\", "/").strip("/"))
    if parts == record.file_id[: len(parts)]:
        return True
    if text == record.sop_instance_uid:
        return True
    return any(one.type in ("STUDY", "SERIES") and one.identity == text.encode() for one in above)
