"""De-identification of a file: a new Part 10 file."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import IO, Final

import trio

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.deidentification.deidentifier import (
    DeidentificationError,
    Deidentified,
    Deidentifier,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.pixel_cleaning import (
    PixelOptions,
    cleaned_pixels,
)
from isocenter.services.dicom.deidentification.text_recognition import texts_in
from isocenter.services.dicom.deidentification.verification import Finding, findings_in
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.mapped_object import mapped_object
from isocenter.services.dicom.pixels.frames import NoPixelDataError, open_image
from isocenter.services.dicom.pixels.pool import CodecPool

_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
#: Dates of the data set that names of files show.
_DATES: Final = (0x00080012, 0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x00100030)
#: Identifiers of which names of files have not even short ones.
_NUMBERS: Final = (0x00080050, 0x00100020)
_SIGNS: Final = re.compile(r"[_+-]+")
_PARTS: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentifiedFile:
    """A data set that was de-identified, and is to be written.

    Attributes:
        done: what was done to it.
        sop_instance_uid: its new one.
    """

    done: Deidentified
    tree: DataSetTree
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    is_deflated: bool
    _secrets: tuple[str, ...]
    _short_secrets: frozenset[str]
    _deidentifier: Deidentifier

    def write(self, target: IO[bytes]) -> None:
        """Write it as a Part 10 file, without anything of the header that it had."""
        target.write(
            write_file_meta(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid, "")
        )
        self.write_data_set(target)

    def write_data_set(self, target: IO[bytes]) -> None:
        """Write it without any header."""
        write_tree(self.tree, target, deflated=self.is_deflated)

    def findings(self, target: IO[bytes]) -> list[Finding]:
        """What could still identify in *target*, to which it was written, as it is read now."""
        target.flush()
        with open_data_set(target) as source:
            tree = DataSetTree(source.data, source.encoding)
            return findings_in(
                tree,
                self._deidentifier.profile,
                self.done.patient,
                self._deidentifier.pseudonyms.uids,
            )

    async def findings_in_pixels(self, target: IO[bytes], pool: CodecPool) -> list[Finding]:
        """Frames of *target* in which a text is recognized that has a word of the patient.

        Raises:
            PixelError: the extra is not installed, or a frame cannot be decoded.
        """
        await trio.to_thread.run_sync(target.flush)
        identity = self.done.patient.identity
        found = []
        with open_data_set(target) as source:
            syntax = source.head.transfer_syntax_uid
            own = EXPLICIT_VR_LITTLE_ENDIAN if source.is_inflated else syntax
            item = mapped_object(source.data, own, self.sop_class_uid, self.sop_instance_uid)
            try:
                async with open_image(item) as image:
                    for number in range(len(image)):
                        texts = await texts_in(pool, await image.decode(pool, number))
                        if any(map(identity.is_in, texts)):
                            rule = f"shows a word of the patient in frame {number + 1}"
                            found.append(Finding("(7FE0,0010)", rule))
            except NoPixelDataError:
                return []
        return found

    def safe_name(self, relative: str) -> str:
        """*relative*, in which the names of folders and of the file say nothing of the patient."""
        *folders, name = relative.replace("\\", "/").split("/")
        pseudonyms = self._deidentifier.pseudonyms
        made = [pseudonyms.code(each) if self._tells(each) else each for each in folders]
        return "/".join([*made, f"{self.sop_instance_uid}.dcm" if self._tells(name) else name])

    def _tells(self, name: str) -> bool:
        bare = re.sub(r"[-_. ]", "", name)
        if any(secret in name or secret in bare for secret in self._secrets):
            return True
        if not self._short_secrets.isdisjoint(_PARTS.findall(name.casefold())):
            return True
        return self.done.patient.identity.is_in(_SIGNS.sub(" ", name))


def deidentify_file(
    source: DataSetFile,
    deidentifier: Deidentifier,
    *,
    tree: DataSetTree | None = None,
    transfer_syntax_uid: str = "",
    pixels_are_clean: bool = False,
    pixels_are_changed: bool = False,
) -> DeidentifiedFile:
    """De-identify the data set of *source*; good while it is open.

    Args:
        tree: of a data set that was made of it, whose pixels were cleaned.
        transfer_syntax_uid: of that one.
        pixels_are_clean, pixels_are_changed: see `Deidentifier.apply`.

    Raises:
        DeidentificationError: it cannot be, under this profile, or has no UIDs.
        DataSetError: it cannot be read to its end.
    """
    tree = DataSetTree(source.data, source.encoding) if tree is None else tree
    syntax = transfer_syntax_uid or source.head.transfer_syntax_uid
    meta = source.head.meta
    sop_class = _uid(tree, _SOP_CLASS_UID) or (meta.media_storage_sop_class_uid if meta else "")
    instance = _uid(tree, _SOP_INSTANCE_UID) or (
        meta.media_storage_sop_instance_uid if meta else ""
    )
    for uid, name in ((sop_class, "SOP Class UID"), (instance, "SOP Instance UID")):
        if not is_safe_uid(uid):
            raise DeidentificationError(
                f"no {name}, which a file needs; insert it with dcmmodify first"
            )
    secrets, short_secrets = _secrets(tree, deidentifier), _short_secrets(tree)
    # What stands between elements, and behind the last one, may be anything.
    tree.repair()
    tree.leave_out_padding()
    # Group lengths are retired, and what is called one may be anything, too.
    tree.set_group_lengths(wanted=False)
    done = deidentifier.apply(
        tree,
        syntax,
        pixels_are_clean=pixels_are_clean,
        pixels_are_changed=pixels_are_changed,
    )
    tree.pad_odd_values()
    return DeidentifiedFile(
        done=done,
        tree=tree,
        sop_class_uid=sop_class,
        sop_instance_uid=_uid(tree, _SOP_INSTANCE_UID) or deidentifier.pseudonyms.uid(instance),
        transfer_syntax_uid=syntax,
        is_deflated=source.encoding.deflated,
        _secrets=secrets,
        _short_secrets=short_secrets,
        _deidentifier=deidentifier,
    )


async def deidentify_with_pixels(
    source: DataSetFile,
    deidentifier: Deidentifier,
    pool: CodecPool,
    options: PixelOptions,
    use: Callable[[DeidentifiedFile], None],
    *,
    syntax: str = "",
) -> DeidentifiedFile:
    """De-identify the data set of *source*, its pixels with it.

    Args:
        use: writes it; runs in a thread, while what it writes is there.
        syntax: the transfer syntax that was promised; empty: as it turns out.

    Raises:
        DeidentificationError, DataSetError: as `deidentify_file`.
        PixelError: its pixels cannot be decoded, or encoded again.
    """
    tree = await trio.to_thread.run_sync(DataSetTree, source.data, source.encoding)
    async with cleaned_pixels(source, tree, pool, options, syntax) as clean:
        made = await trio.to_thread.run_sync(
            partial(
                deidentify_file,
                source,
                deidentifier,
                tree=clean.tree,
                transfer_syntax_uid=clean.transfer_syntax_uid,
                pixels_are_clean=clean.is_clean,
                pixels_are_changed=clean.is_changed,
            )
        )
        for note in clean.notes:
            made.done.report.warn(note)
        if clean.is_changed:
            made.done.report.counts["pixels"] += 1
        await trio.to_thread.run_sync(use, made)
        return made


def _secrets(tree: DataSetTree, deidentifier: Deidentifier) -> tuple[str, ...]:
    """Values of the data set that the name of a file may not have: UIDs, and dates."""
    options = deidentifier.profile.options
    found = []
    for node in tree.root.elements:
        if node.items is not None or tree.length(node) > 64:
            continue
        is_uid = node.vr == "UI" and Option.UIDS not in options
        is_date = node.tag in _DATES and Option.FULL_DATES not in options
        if is_uid or is_date:
            text = decode_text(tree.value(node), "UI")
            if len(text) >= 8 and not text.startswith("1.2.840.10008."):
                found.append(text)
    return tuple(found)


def _short_secrets(tree: DataSetTree) -> frozenset[str]:
    """Patient ID and Accession Number, also where they are too short to be searched in texts."""
    return frozenset(
        decode_text(tree.value(node), "LO").casefold()
        for tag in _NUMBERS
        for node in tree.root.all(tag)
        if node.items is None and tree.length(node) <= 64
    ) - {""}


def _uid(tree: DataSetTree, tag: int) -> str:
    nodes = [node for node in tree.root.all(tag) if node.items is None]
    return decode_text(tree.value(nodes[-1]), "UI") if nodes else ""
