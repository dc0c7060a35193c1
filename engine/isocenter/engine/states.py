"""The words of the upper layer's state machine, in the standard's sentences (PS3.8 9.2).

`Sta`, `Evt` and `Action` print as the standard prints them.  What they do is in
`isocenter.engine.upper_layer`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class _Name(Enum):
    """Prints as the standard does.  Each member is one object, so its identity is its hash:
    the tables are looked into for every message, and `Enum` hashes the name each time."""

    __hash__ = object.__hash__


class Sta(_Name):
    """States (PS3.8 Tables 9-1 to 9-5)."""

    STA1 = "Sta1"
    STA2 = "Sta2"
    STA3 = "Sta3"
    STA4 = "Sta4"
    STA5 = "Sta5"
    STA6 = "Sta6"
    STA7 = "Sta7"
    STA8 = "Sta8"
    STA9 = "Sta9"
    STA10 = "Sta10"
    STA11 = "Sta11"
    STA12 = "Sta12"
    STA13 = "Sta13"

    def __str__(self) -> str:
        return self.value


class Evt(_Name):
    """Events (PS3.8 Table 9-10, first column)."""

    EVT1 = "Evt1"
    EVT2 = "Evt2"
    EVT3 = "Evt3"
    EVT4 = "Evt4"
    EVT5 = "Evt5"
    EVT6 = "Evt6"
    EVT7 = "Evt7"
    EVT8 = "Evt8"
    EVT9 = "Evt9"
    EVT10 = "Evt10"
    EVT11 = "Evt11"
    EVT12 = "Evt12"
    EVT13 = "Evt13"
    EVT14 = "Evt14"
    EVT15 = "Evt15"
    EVT16 = "Evt16"
    EVT17 = "Evt17"
    EVT18 = "Evt18"
    EVT19 = "Evt19"

    def __str__(self) -> str:
        return self.value


class Action(_Name):
    """Actions (PS3.8 Tables 9-6 to 9-9)."""

    AE_1 = "AE-1"
    AE_2 = "AE-2"
    AE_3 = "AE-3"
    AE_4 = "AE-4"
    AE_5 = "AE-5"
    AE_6 = "AE-6"
    AE_7 = "AE-7"
    AE_8 = "AE-8"
    DT_1 = "DT-1"
    DT_2 = "DT-2"
    AR_1 = "AR-1"
    AR_2 = "AR-2"
    AR_3 = "AR-3"
    AR_4 = "AR-4"
    AR_5 = "AR-5"
    AR_6 = "AR-6"
    AR_7 = "AR-7"
    AR_8 = "AR-8"
    AR_9 = "AR-9"
    AR_10 = "AR-10"
    AA_1 = "AA-1"
    AA_2 = "AA-2"
    AA_3 = "AA-3"
    AA_4 = "AA-4"
    AA_5 = "AA-5"
    AA_6 = "AA-6"
    AA_7 = "AA-7"
    AA_8 = "AA-8"

    def __str__(self) -> str:
        return self.value


#: What each state means, for logs and diagrams.
STATES: Final = {
    Sta.STA1: "idle",
    Sta.STA2: "transport connection open, awaiting A-ASSOCIATE-RQ",
    Sta.STA3: "awaiting the local A-ASSOCIATE response",
    Sta.STA4: "awaiting the transport connection to open",
    Sta.STA5: "awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ",
    Sta.STA6: "association established, ready for data transfer",
    Sta.STA7: "awaiting A-RELEASE-RP",
    Sta.STA8: "awaiting the local A-RELEASE response",
    Sta.STA9: "release collision, requestor: awaiting the local A-RELEASE response",
    Sta.STA10: "release collision, acceptor: awaiting A-RELEASE-RP",
    Sta.STA11: "release collision, requestor: awaiting A-RELEASE-RP",
    Sta.STA12: "release collision, acceptor: awaiting the local A-RELEASE response",
    Sta.STA13: "awaiting the transport connection to close",
}

#: What each event is.
EVENTS: Final = {
    Evt.EVT1: "A-ASSOCIATE request (local user)",
    Evt.EVT2: "transport connect confirmation",
    Evt.EVT3: "A-ASSOCIATE-AC received",
    Evt.EVT4: "A-ASSOCIATE-RJ received",
    Evt.EVT5: "transport connection indication",
    Evt.EVT6: "A-ASSOCIATE-RQ received",
    Evt.EVT7: "A-ASSOCIATE response, accept (local user)",
    Evt.EVT8: "A-ASSOCIATE response, reject (local user)",
    Evt.EVT9: "P-DATA request (local user)",
    Evt.EVT10: "P-DATA-TF received",
    Evt.EVT11: "A-RELEASE request (local user)",
    Evt.EVT12: "A-RELEASE-RQ received",
    Evt.EVT13: "A-RELEASE-RP received",
    Evt.EVT14: "A-RELEASE response (local user)",
    Evt.EVT15: "A-ABORT request (local user)",
    Evt.EVT16: "A-ABORT received",
    Evt.EVT17: "transport connection closed",
    Evt.EVT18: "ARTIM expired",
    Evt.EVT19: "unrecognized or invalid PDU received",
}
