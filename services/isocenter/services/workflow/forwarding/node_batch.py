"""Batches of forwards for a destination that does not speak DIMSE."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.engine.dataset import DataSetError
from isocenter.engine.errors import IsocenterError
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sent_form import SentForm
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.errors import StorageError, text_of
from isocenter.services.workflow.forwarding.visit import SendTask, Visit
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import OpenNode, RemoteArchive


class NodeSender:
    """Sends to a remote node by its own ways (STOW-RS)."""

    def __init__(self, node: Node, open_node: OpenNode) -> None:
        self._node = node
        self._open_node = open_node

    async def send(self, tasks: Sequence[SendTask], visit: Visit) -> None:
        """What is answered is settled; the rest waits with the destination."""
        waiting = {stored.sop_instance_uid: record for record, stored in tasks}

        def told(stored: StoredInstance, fault: str) -> None:
            record = waiting.pop(stored.sop_instance_uid, None)
            if record is None:
                return
            if fault:
                visit.missed(record, fault)
            else:
                visit.account.arrived(record, stored.size)

        async def send(
            remote: RemoteArchive, some: Sequence[StoredInstance], form: SentForm
        ) -> None:
            """*some*; where one of them cannot be read, each by itself."""
            fault = ""
            try:
                await remote.send(some, told, form)
            except KeyError:
                fault = "it was removed or replaced meanwhile"
            except (StorageError, DataSetError, PixelError) as error:
                fault = f"it cannot be read: {error}"
            except (IsocenterError, OSError):
                raise
            except Exception as error:
                # A fault of ours with one object blocks no other; its text may name a patient.
                fault = f"internal error ({type(error).__name__})"
            left = [stored for stored in some if stored.sop_instance_uid in waiting]
            if fault and len(some) == 1:
                told(some[0], fault)
            elif fault:
                for stored in left:
                    await send(remote, [stored], form)

        try:
            async with self._open_node(self._node) as remote:
                rest = list(tasks)
                while rest:
                    form = rest[0][0].form
                    some = [stored for record, stored in rest if record.form == form]
                    rest = [task for task in rest if task[0].form != form]
                    await send(remote, some, form)
        except (IsocenterError, OSError) as error:
            visit.account.fault = text_of(error)
