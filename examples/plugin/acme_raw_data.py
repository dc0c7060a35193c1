"""A plug-in of `isocenter serve`: keeps the raw data of Acme's scanners beside the archive."""

from pathlib import Path

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
    async def handle(received: ReceivedObject) -> None:
        # So that the audit trail names the study, and its patient if the archive knows it.
        context.concerns(received.operation, (received.study_instance_uid,))

    return ObjectFolder(context.settings["folder"], handle=handle, sop_classes=[RAW_DATA])


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
