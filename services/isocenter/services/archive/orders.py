"""Orders that rules give with an object: where it goes, how it is kept."""

from __future__ import annotations

from enum import IntEnum

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm


class ForwardPriority(IntEnum):
    """Priority of an object among those that wait for the same destination."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An object is to be sent to one peer.

    Attributes:
        destination: AE title of one of the peers.
        rule: the name of the rule that says so.
        delay: seconds from storing to the first attempt.
        commit: ask the peer for storage commitment afterwards.
        delete_after: once it has committed, and no other peer waits for it, the object leaves
            this archive.
        form: what is made of it before.
    """

    destination: str
    rule: str
    form: SentForm = AS_IT_IS
    delay: float = 0.0
    priority: ForwardPriority = ForwardPriority.NORMAL
    commit: bool = False
    delete_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionOrder:
    """An object is to be kept in another form: smaller, signed, or both.

    Attributes:
        transfer_syntax_uid: in which nothing of its pixels is lost; empty: the one that it has.
        rule: the name of the rule that says so.
        when_complete: not before its study is complete.
        signs: it is given a digital signature of ours.
    """

    transfer_syntax_uid: str = ""
    rule: str
    when_complete: bool = True
    signs: bool = False
