"""De-identification on the way out: objects that are made when somebody reads them.

Such an object has the UIDs that its project gives it before it is made, so associations are
planned without touching a byte; reading it makes it, in temporary files that end with the reader.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from tempfile import TemporaryFile
from typing import IO, Final

import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.deidentification.ports import DeidentificationMapping
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.made_objects import MadeReader, copy_object
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.files import (
    DeidentifiedFile,
    deidentify_file,
    deidentify_with_pixels,
)
from isocenter.services.dicom.deidentification.identity import uids_in
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import lossless_of
from isocenter.services.dicom.deidentification.pseudonyms import (
    Pseudonyms,
    UidMap,
    is_standard_uid,
    is_uid,
)
from isocenter.services.dicom.deidentification.report import Report
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.errors import StorageError, text_of
from isocenter.services.net.addresses import is_within

log = logging.getLogger("isocenter.deidentification")

#: Of UIDs in one data set, more than which nobody looks up.
_MOST_UIDS: Final = 100_000
#: Bytes that are written at once.
_PIECE: Final = 1 << 20
_LONGEST_UIDS: Final = 64 << 10
_LONGEST_TEXT: Final = 4 << 20
_TEXTS: Final = frozenset(("LO", "LT", "SH", "ST", "UC", "UR", "UT"))


class UnknownProjectError(IsocenterError):
    """Nobody has set up a project of that name."""

    error_code = ErrorCode.DEIDENTIFICATION


class NotDeidentifiedError(DataSetError):
    """An object that does not leave, since it cannot be de-identified."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not de-identified: {why}", 0)
        self.args = (f"not de-identified: {why}",)


class Deidentification:
    """Projects, and objects that are de-identified under them.

    Args:
        keys: of the projects, by name.
        pool: decodes and encodes pixels; None: nobody can.
    """

    def __init__(
        self,
        projects: Iterable[Project],
        keys: Mapping[str, bytes],
        mapping: DeidentificationMapping,
        pool: CodecPool | None = None,
    ) -> None:
        self.projects = {project.name: project for project in projects}
        self.mapping = mapping
        self._keys = keys
        self._pool = pool
        #: Where a destination is, by its AE title; empty: that is not known.
        self.host_of: Callable[[str], str] = lambda ae_title: ""
        self._by_destination = {
            _compared(title): project
            for project in self.projects.values()
            for title in project.destinations
        }

    def project(self, name: str) -> Project:
        """The project of that name.

        Raises:
            UnknownProjectError: there is none.
        """
        found = self.projects.get(name)
        if found is None:
            known = ", ".join(self.projects) or "none"
            raise UnknownProjectError(
                f"no project of de-identification {name[:64]!r}: there are {known}"
            )
        return found

    def project_of_destination(self, destination: str) -> Project | None:
        """The project that is for an AE, or a host; None: none is.

        An AE under another title is at the same place as the one that is meant.
        """
        found = self._by_destination.get(_compared(destination))
        if found is not None:
            return found
        host = self.host_of(destination) or destination
        found = self._by_destination.get(_compared(host))
        if found is not None:
            return found
        return next((one for one in self.projects.values() if is_within(host, one.networks)), None)

    async def leaving(self, item: DicomObject, destination: str) -> DicomObject:
        """*item* as it is sent to an AE, or to a host: itself, unless a project is for that."""
        project = self.project_of_destination(destination)
        return item if project is None else await self.deidentified(item, project)

    async def deidentified(self, item: DicomObject, project: Project) -> DicomObject:
        """*item* de-identified under *project*; opening it makes it.

        Opening raises `NotDeidentifiedError` where it cannot be, `StorageError` where there is no
        room for it, and what opening *item* raises.
        """
        return (await self._made(item, project, Report()))[0]

    async def report_of(self, item: DicomObject, project: Project) -> tuple[DicomObject, Report]:
        """The same, made already to be looked at, and what was done to it.

        Raises:
            NotDeidentifiedError: it cannot be.
        """
        made, report = await self._made(item, project, Report(wants_changes=True))
        async with await made.open():
            return made, report

    async def uid_of(self, original: str, project: Project) -> str:
        """What stands in the place of a UID under *project*: as the mapping has it, else made."""
        if Option.UIDS in project.profile.options:
            return original
        return self._pseudonyms(project, await self._known(project, [original])).uid(original)

    async def uids_of(self, originals: Collection[str], project: Project) -> Mapping[str, str]:
        """The same of several, which are noted: whoever hears of them may ask for them."""
        if Option.UIDS in project.profile.options:
            return {uid: uid for uid in originals}
        made = self._pseudonyms(project, await self._known(project, originals))
        found = {uid: made.uid(uid) for uid in originals}
        await self.mapping.add(project.name, made.uids.items())
        return found

    async def originals(self, project: Project, pseudonyms: Collection[str]) -> Mapping[str, str]:
        """By pseudonym, what stands behind those that were given out."""
        if Option.UIDS in project.profile.options:
            return {uid: uid for uid in pseudonyms}
        found = await self.mapping.originals(project.name, pseudonyms)
        return {**found, **{uid: uid for uid in pseudonyms if is_standard_uid(uid)}}

    def syntax_of(self, transfer_syntax_uid: str, project: Project) -> str:
        """The transfer syntax of what is made of an object of another."""
        if Option.PIXELS in project.profile.options:
            return lossless_of(transfer_syntax_uid)
        return transfer_syntax_uid

    def syntax_leaving(self, transfer_syntax_uid: str, destination: str, project: str = "") -> str:
        """The same of what is sent to an AE, or under the *project* of that name."""
        found = self.projects.get(project) if project else self.project_of_destination(destination)
        return transfer_syntax_uid if found is None else self.syntax_of(transfer_syntax_uid, found)

    def digest_of(self, digest: str, project: Project) -> str:
        """What tells apart what is made of objects, without saying of which."""
        made = self._pseudonyms(project, UidMap(project.uid_root))
        return made.digest(f"{digest} {project!r}")

    def keyed_hash(self, project: Project) -> Callable[[str], str]:
        """What gives matches an order that says nothing of them."""
        made = self._pseudonyms(project, UidMap(project.uid_root))
        return lambda text: made.digest(f"order {text}")

    async def deidentifier(self, project: Project, uids: Collection[str]) -> Deidentifier:
        """What de-identifies data sets with these UIDs, as objects are."""
        return Deidentifier(
            project.profile, self._pseudonyms(project, await self._known(project, uids))
        )

    async def note(self, project: Project, deidentifier: Deidentifier) -> None:
        """Keep the UIDs that *deidentifier* has given out.

        Raises:
            MappingConflictError: somebody has given out others.
        """
        await self.mapping.add(project.name, deidentifier.pseudonyms.uids.items())

    async def _known(self, project: Project, originals: Collection[str]) -> UidMap:
        """What the mapping has of *originals*."""
        uids = UidMap(project.uid_root)
        for original, made in (await self.mapping.pseudonyms(project.name, originals)).items():
            uids.add(original, made)
        return uids

    async def _made(
        self, item: DicomObject, project: Project, report: Report
    ) -> tuple[DicomObject, Report]:
        syntax = self.syntax_of(item.transfer_syntax_uid, project)
        uid = await self.uid_of(item.sop_instance_uid, project)

        async def open_object() -> ObjectReader:
            made = await self._make(item, project, syntax, report)
            return MadeReader(made, made.seek(0, 2))

        return (
            DicomObject(
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=uid,
                transfer_syntax_uid=syntax,
                open=open_object,
                name=uid,
            ),
            report,
        )

    def _pseudonyms(self, project: Project, uids: UidMap) -> Pseudonyms:
        return Pseudonyms(
            self._keys[project.name], uids, days=project.days, keeps_weekdays=project.weekdays
        )

    async def _make(
        self, item: DicomObject, project: Project, syntax: str, report: Report
    ) -> IO[bytes]:
        """Its data set, in a file that whoever reads it closes."""
        try:
            target = TemporaryFile(buffering=0)  # noqa: SIM115 - its reader closes it
            try:
                with TemporaryFile() as source:
                    await copy_object(item, source)
                    await self._deidentify(item, source, target, project, syntax, report)
            except BaseException:
                target.close()
                raise
        except OSError as error:
            raise StorageError(
                f"it cannot be de-identified now: {text_of(error)} (folder of temporary files, "
                "TMPDIR)"
            ) from error
        return target

    async def _deidentify(
        self,
        item: DicomObject,
        source: IO[bytes],
        target: IO[bytes],
        project: Project,
        syntax: str,
        report: Report,
    ) -> None:
        run = trio.to_thread.run_sync
        try:
            with open_data_set(source) as opened:
                tree = await run(DataSetTree, opened.data, opened.encoding)
                uids = await self._known(project, await run(_uids_of, tree))
                deidentifier = Deidentifier(
                    project.profile,
                    self._pseudonyms(project, uids),
                    wants_changes=report.wants_changes,
                )

                def write(made: DeidentifiedFile) -> None:
                    # A disk that becomes full takes a part of what a raw file is given.
                    buffered = io.BufferedWriter(target, _PIECE)
                    try:
                        made.write_data_set(buffered)
                    finally:
                        buffered.detach()  # with what it holds
                    report.add(made.done.report)
                    report.changes += made.done.report.changes

                if Option.PIXELS in project.profile.options:
                    if self._pool is None:
                        raise NotDeidentifiedError("its pixels cannot be cleaned: no codecs")
                    await deidentify_with_pixels(
                        opened, deidentifier, self._pool, project.pixels, write, syntax=syntax
                    )
                else:

                    def deidentify() -> None:
                        write(deidentify_file(opened, deidentifier, tree=tree))

                    await run(deidentify)
            await self.mapping.add(project.name, uids.items())
        except (NotDeidentifiedError, StorageError, OSError):
            raise  # of a database that is away now, say: it can be, later
        except IsocenterError as error:
            log.warning("instance %s: not de-identified: %s", item.sop_instance_uid, error)
            raise NotDeidentifiedError(str(error)) from error
        except Exception as error:
            # Of an object that nobody thought of: a KeyError, say, would mean that it is gone.  No
            # traceback, and no text (int() quotes what is no number): they may show values.
            name = type(error).__name__
            log.error("instance %s: not de-identified: unexpected %s", item.sop_instance_uid, name)
            raise NotDeidentifiedError(f"unexpected {name}") from None


def _compared(destination: str) -> str:
    """Names of hosts are the same in capitals, and with a dot at their end; of AE titles rather one
    too many is given nothing else than one too few."""
    return destination.casefold().rstrip(".")


def _uids_of(tree: DataSetTree) -> set[str]:
    """The UIDs that values are, and those that texts mention."""
    found: set[str] = set()
    for item in tree.items():
        for node in item.elements:
            vr = dictionary_vr(node.tag) if node.vr == "UN" else node.vr
            if node.items is not None or not (vr == "UI" or vr in _TEXTS):
                continue
            if tree.length(node) > (_LONGEST_TEXT if vr in _TEXTS else _LONGEST_UIDS):
                continue
            text = tree.value(node).decode("latin-1")
            if vr == "UI":
                found.update(each.strip(" \0") for each in text.split("\\"))
            else:
                found.update(uids_in(text))
        if len(found) > _MOST_UIDS:
            break
    return {each for each in found if is_uid(each)}
