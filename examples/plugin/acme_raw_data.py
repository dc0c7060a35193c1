"""A plug-in of `isocenter serve`: keeps the raw data of Acme's scanners beside the archive."""

from pathlib import Path

import trio

from isocenter.services import (
    ObjectFolder,
    PluginContext,
    PluginSetting,
    PluginSopClass,
    ReceivedObject,
    Service,
    ServicePlugin,
)

RAW_DATA = "2.25.160447813486329485038264826194826371"


def make(context: PluginContext) -> Service:
    folder: Path = context.settings["folder"]
    size = context.monitor.counter("bytes", "bytes of raw data that were kept")

    async def handle(received: ReceivedObject) -> None:
        size.add(received.size)
        # So that the audit trail names the study, and its patient if the archive knows it.
        context.concerns(received.operation, (received.study_instance_uid,))

    async def disk() -> str:
        return "" if await trio.Path(folder.parent).is_dir() else f"{folder.parent} is not there"

    context.monitor.add_check("disk", disk)
    return ObjectFolder(folder, handle=handle, sop_classes=[RAW_DATA])


plugin = ServicePlugin(
    about="Keeps the raw data of Acme's scanners as files, beside the archive.",
    sop_classes=(
        PluginSopClass(uid=RAW_DATA, name="Acme Raw Data Storage", operations=("C-STORE",)),
    ),
    make=make,
    settings=(
        PluginSetting(name="folder", type=Path, help="where the files go", is_required=True),
    ),
)
