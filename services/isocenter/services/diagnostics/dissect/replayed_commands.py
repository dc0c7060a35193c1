"""Commands that make an engine send what a peer was seen to send."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from isocenter.engine import commands, pdu
from isocenter.engine.commands import Command
from isocenter.engine.items import UserInformation
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID


def command_of(received: pdu.Pdu) -> Command:
    """What the sender's service-user asked for, when this PDU left."""
    match received:
        case pdu.AssociateRequest(user_information=information):
            ours = _sendable(information)
            return commands.RequestAssociation(replace(received, user_information=ours))
        case pdu.AssociateAccept(user_information=information):
            ours = _sendable(information)
            return commands.AcceptAssociation(replace(received, user_information=ours))
        case pdu.AssociateReject():
            return commands.RejectAssociation(received)
        case pdu.ReleaseRequest():
            return commands.RequestRelease()
        case pdu.ReleaseResponse():
            return commands.AcceptRelease()
        case pdu.Abort():
            return commands.Abort()
        case _:
            assert_never(received)


def _sendable(information: UserInformation) -> UserInformation:
    """What the engine goes by, without what it reads from others and would not write itself."""
    return replace(
        information,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name="",
        user_identity=None,
    )
