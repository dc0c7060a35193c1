"""Scan of an arriving object: attributes, digest, and reasons to refuse it.

Nothing here waits or stores; `isocenter.services.archive.archive` and the reindexing of
`isocenter.services.archive.verification` both look at objects through `ObjectScan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import date
from functools import lru_cache
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DANGEROUS_GROUPS,
    DataSetError,
    DataSetLimitError,
    ElementScanner,
    encoding_of,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import is_safe_uid, is_uid
from isocenter.services.archive.index.extraction import (
    MAC_PARAMETERS,
    SCANNED_SEQUENCES,
    SCANNED_TAGS,
    SPECIFIC_CHARACTER_SET,
    attributes_of,
    values_at,
)
from isocenter.services.archive.object_keys import NamingScheme, can_be_named, object_key
from isocenter.services.archive.orders import CompressionOrder, Route
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.validation.mark import ValidationMark
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.dicom.element_values import has_unknown_terms
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import OperationError, StorageError

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_DATE: Final = 0x00080020
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
_IDENTITY: Final = frozenset(
    (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)
)

#: A tag begins with its group.
_GROUP_BYTES: Final = 2


_STUDY_INSTANCE_UID: Final = 0x0020000D
_PATIENT_ID: Final = 0x00100020


class StoreError(OperationError):
    """An object was refused, or could not be kept; nothing of it is left."""

    error_code = ErrorCode.STORING

    @classmethod
    def of_storage(cls, error: StorageError) -> StoreError:
        """What a C-STORE answers when an adapter fails."""
        if error.out_of_resources:
            status, comment = Status.OUT_OF_RESOURCES, error.comment or "no room to keep it"
        else:
            status, comment = Status.PROCESSING_FAILURE, error.comment or "cannot be kept"
        refusal = cls(status, comment, log_detail=str(error))
        refusal.__cause__ = error
        return refusal

    @classmethod
    def of_data_set(cls, error: DataSetError) -> StoreError:
        """What a C-STORE answers to a data set that cannot be taken."""
        if isinstance(error, DataSetLimitError):
            refusal: StoreError = OverLimitError(Status.OUT_OF_RESOURCES, str(error))
        else:
            refusal = cls(Status.CANNOT_UNDERSTAND, str(error))
        refusal.__cause__ = error
        return refusal


class OtherPatientError(StoreError):
    """An object names another patient than its study came with, and such are refused."""

    error_code = ErrorCode.STORE_REFUSED


class OverLimitError(StoreError):
    """An object takes more than a limit of ours allows; there is room for others."""

    error_code = ErrorCode.STORE_REFUSED


@dataclass(frozen=True, slots=True)
class ScannedObject:
    """One whole data set: its attributes by tag, bytes, and SHA-256 in hexadecimal.

    Attributes:
        is_signed: whether it has parameters of MACs, as each signature of its own needs them.
        places: what rules look at, as it stands in the data set.
        forgiven: what of it breaks the standard and was taken all the same, or was left out
            of the index, in words without a value.
    """

    attributes: dict[int, str]
    size: int
    digest: str
    places: Mapping[TagOrPath, str] = field(default_factory=dict)
    forgiven: tuple[str, ...] = ()
    is_signed: bool = False

    def check_identity(
        self, sop_class_uid: str, sop_instance_uid: str, uids: UidRule = UidRule.SAFE
    ) -> None:
        """Compare with the command, or with the File Meta Information.

        Raises:
            StoreError: A900H when they disagree or a UID is missing, 0117H when one is none.
        """
        attributes = self.attributes
        for tag, uid, name in (
            (SOP_CLASS_UID, sop_class_uid, "SOP Class UID"),
            (SOP_INSTANCE_UID, sop_instance_uid, "SOP Instance UID"),
        ):
            if attributes.get(tag, "") != uid:
                raise StoreError(
                    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
                    f"{name} differs between command and data set",
                    (tag,),
                )
        for tag, name in (
            (STUDY_INSTANCE_UID, "Study Instance UID"),
            (SERIES_INSTANCE_UID, "Series Instance UID"),
        ):
            uid = attributes.get(tag, "")
            if not uid:
                raise StoreError(
                    Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, f"{name} is missing", (tag,)
                )
            if not _is_taken(uid, uids):
                raise StoreError(Status.INVALID_SOP_INSTANCE, f"{name} is not a UID", (tag,))

    def record(
        self,
        *,
        transfer_syntax_uid: str,
        data_set_offset: int,
        object_key: str,
        source_ae_title: str = "",
        routes: tuple[Route, ...] = (),
        compression: CompressionOrder | None = None,
        analyses: tuple[str, ...] = (),
        expires_by: str = "",
        expires_under: str = "",
        quarantine: str = "",
        validation: ValidationMark | None = None,
    ) -> InstanceRecord:
        """What the index keeps; the identity was checked before."""
        attributes = self.attributes
        return InstanceRecord(
            sop_instance_uid=attributes[SOP_INSTANCE_UID],
            sop_class_uid=attributes[SOP_CLASS_UID],
            study_instance_uid=attributes[STUDY_INSTANCE_UID],
            series_instance_uid=attributes[SERIES_INSTANCE_UID],
            transfer_syntax_uid=transfer_syntax_uid,
            object_key=object_key,
            size=data_set_offset + self.size,
            data_set_offset=data_set_offset,
            digest=self.digest,
            attributes=attributes,
            source_ae_title=source_ae_title,
            routes=routes,
            compression=compression,
            analyses=analyses,
            expires_by=expires_by,
            expires_under=expires_under,
            quarantine=quarantine,
            validation=validation,
            is_signed=self.is_signed,
        )

    def key(self, scheme: NamingScheme, today: date, area: str = "") -> str:
        """Its object key; *area*: the folder that it begins with."""
        attributes = self.attributes
        key = object_key(
            scheme,
            study_instance_uid=attributes[STUDY_INSTANCE_UID],
            series_instance_uid=attributes[SERIES_INSTANCE_UID],
            sop_instance_uid=attributes[SOP_INSTANCE_UID],
            study_date=attributes.get(STUDY_DATE, ""),
            today=today,
        )
        return f"{area}/{key}" if area else key


class ObjectScan:
    """Reads a data set as it passes: counts, hashes, and keeps what the index wants."""

    __slots__ = ("_encoding", "_hash", "_head", "_places", "_scanner", "_undeclared", "size")

    def __init__(
        self,
        transfer_syntax_uid: str,
        limits: Limits = DEFAULT_LIMITS,
        places: frozenset[TagOrPath] = frozenset(),
        undeclared: tuple[str, ...] = (),
    ) -> None:
        """*places*: what rules look at beside what the index keeps; *undeclared*: the character
        set of text for which none is declared."""
        self._encoding = encoding_of(transfer_syntax_uid)
        self._places = places
        self._undeclared = undeclared
        tags, sequences = (SCANNED_TAGS, SCANNED_SEQUENCES) if not places else _scanned_for(places)
        self._scanner = ElementScanner(self._encoding, tags, limits, sequences=sequences)
        self._hash = hashlib.sha256()
        self._head = b""
        self.size = 0

    @property
    def position(self) -> int:
        """Bytes of the data set so far, inflated."""
        return self._scanner.position

    @property
    def study_instance_uid(self) -> str:
        """What was seen of it so far; empty: nothing."""
        value = self._scanner.values.get(_STUDY_INSTANCE_UID)
        return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""

    @property
    def patient_id(self) -> str:
        """What was seen of it so far; empty: nothing, or what nobody can read."""
        try:
            attributes = attributes_of(self._scanner.values, self._encoding, self._undeclared)
        except DataSetError:
            return ""
        return attributes.get(_PATIENT_ID, "")

    def feed(self, data: Buffer) -> None:
        """Raises:
        StoreError: C000H, the data set cannot be parsed; A700H, it passes a limit.
        """
        if len(self._head) < _GROUP_BYTES:
            self._check_first_group(data)
        self.size += len(data)
        self._hash.update(data)
        try:
            self._scanner.feed(data)
        except DataSetError as error:
            raise StoreError.of_data_set(error) from error

    def _check_first_group(self, data: Buffer) -> None:
        """Refuse what would continue our File Meta Information (group 0002) or is a command
        set or a directory: behind our header, readers would believe it.  What is inflated
        they only read when they have our header."""
        self._head += bytes(data[: _GROUP_BYTES - len(self._head)])
        if len(self._head) == _GROUP_BYTES and not self._encoding.deflated:
            group = int.from_bytes(self._head, "big" if self._encoding.big_endian else "little")
            if group in DANGEROUS_GROUPS:
                raise StoreError(
                    Status.CANNOT_UNDERSTAND, f"group {group:04X} does not belong into a data set"
                )

    def finish(self) -> ScannedObject:
        """Raises:
        StoreError: C000H, the data set is cut short.
        """
        try:
            self._scanner.finish()
            attributes = attributes_of(self._scanner.values, self._encoding, self._undeclared)
            # What is only the beginning of a value names nothing.
            for tag in _IDENTITY & self._scanner.left_out.keys():
                attributes.pop(tag, None)
            places: Mapping[TagOrPath, str] = {}
            if self._places:
                places = values_at(
                    self._scanner, self._encoding, self._places, attributes, self._undeclared
                )
        except DataSetError as error:
            raise StoreError.of_data_set(error) from error
        scanner = self._scanner
        is_signed = MAC_PARAMETERS in scanner.values or MAC_PARAMETERS in scanner.left_out
        return ScannedObject(
            attributes,
            self.size,
            self._hash.hexdigest(),
            places,
            tuple(self._forgiven()),
            is_signed,
        )

    def _forgiven(self) -> Iterator[str]:
        for what, offset in self._scanner.forgiven.items():
            yield f"{what} (at byte {offset})"
        terms = self._scanner.values.get(SPECIFIC_CHARACTER_SET)
        if isinstance(terms, bytes) and has_unknown_terms(terms):
            yield "(0008,0005) names a character set that is unknown: text is read without it"
        for tag, error in self._scanner.left_out.items():
            if tag == MAC_PARAMETERS:
                continue  # that it is there is all that is wanted
            what = "cut in" if tag in self._scanner.values else "left out of"
            yield f"{tag_text(tag)} is {what} the index: {error}"


@lru_cache(maxsize=8)
def _scanned_for(places: frozenset[TagOrPath]) -> tuple[frozenset[int], frozenset[int]]:
    """What the scanner takes, and which of it, and within it, are sequences."""
    top = {place if isinstance(place, int) else place[0][0][0] for place in places}
    steps = {step for place in places if not isinstance(place, int) for step, _ in place[0]}
    return SCANNED_TAGS | top, SCANNED_SEQUENCES | steps


def check_command(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    uids: UidRule = UidRule.SAFE,
) -> None:
    """Refuse UIDs that are none before anything is made of them.

    Raises:
        StoreError: 0117H.
    """
    for is_one, name in (
        (is_safe_uid(sop_class_uid), "Affected SOP Class UID"),
        (_is_taken(sop_instance_uid, uids), "Affected SOP Instance UID"),
        (is_safe_uid(transfer_syntax_uid), "Transfer Syntax UID"),
    ):
        if not is_one:
            raise StoreError(Status.INVALID_SOP_INSTANCE, f"{name} is not a UID")


def breaks_the_rules(record: InstanceRecord) -> bool:
    """Whether one of its UIDs is taken though PS3.5 9.1 forbids it."""
    uids = (record.study_instance_uid, record.series_instance_uid, record.sop_instance_uid)
    return not all(map(is_uid, uids))


def _is_taken(uid: str, uids: UidRule) -> bool:
    return uids.allows(uid) and can_be_named(uid)
