"""Object of a C-STORE on its way into a file, nameless until whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isocenter.engine.dataset import encoding_of, write_file_meta
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Role
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.object_keys import can_be_named
from isocenter.services.association.operation import Operation
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.storage.staged_file import StagedFile

_SOP_INSTANCE_UID: Final = 0x00080018


class StagedObject(StagedFile):
    """The object of one C-STORE, whole when `read` has returned.

    Raises on construction:
        OperationError: 0117H a UID is none, C000H no data set.
    """

    def __init__(
        self, operation: Operation, request: CStoreRequest, folder: Path, *, durable: bool = False
    ) -> None:
        sop_class_uid, uid = request.affected_sop_class_uid, request.affected_sop_instance_uid
        if not is_safe_uid(sop_class_uid) or not can_be_named(uid):
            raise OperationError(Status.INVALID_SOP_INSTANCE, "SOP class or instance is not a UID")
        if not operation.has_data_set:
            raise OperationError(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        syntax = operation.context.transfer_syntax
        head = write_file_meta(sop_class_uid, uid, syntax, peer_ae_title(operation))
        super().__init__(uid, head, encoding_of(syntax), folder, durable=durable)
        self.operation = operation
        self.sop_class_uid = sop_class_uid

    async def read(self) -> None:
        """Take the data set as it comes.

        Raises:
            OperationError: A900H another object than announced, A700H it cannot be written.
        """
        async for group in self.operation.fragments():
            is_much = False
            for data in group:
                is_much = self.gather(data)
            if is_much:
                await self.write()
        self.identify()
        # Not before it is there: peers do not look for a response while they send.
        if self.found_uid not in (None, self.sop_instance_uid):
            raise OperationError(
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
                "SOP Instance UID differs between command and data set",
                (_SOP_INSTANCE_UID,),
            )

    # What cannot be written is A700H.

    async def write(self) -> None:
        with _out_of_resources():
            await super().write()

    async def close(self) -> None:
        with _out_of_resources():
            await super().close()

    async def publish(self, target: Path, *, overwrite: bool) -> bool:
        with _out_of_resources():
            return await super().publish(target, overwrite=overwrite)


@contextmanager
def _out_of_resources() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OperationError(Status.OUT_OF_RESOURCES, error.strerror or "") from error


def peer_ae_title(operation: Operation) -> str:
    """The AE title of whoever sends; empty where it is not ASCII."""
    negotiated = operation.association.negotiated
    is_ours = negotiated.role is Role.ACCEPTOR
    title = negotiated.calling_ae_title if is_ours else negotiated.called_ae_title
    return title if title.isascii() else ""
