"""Every bound of the engine, in one frozen value, each with its reason.

All are judged on *announced* lengths, at the header, before anything is kept.
Bounds that need a clock are deadlines and belong to the driver.
"""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may make us hold.  All lengths in bytes, headers excluded."""

    #: Body of an A-ASSOCIATE-RQ or -AC.  128 contexts with 30 transfer syntaxes of
    #: 64 characters each need 270 KB; 1 MiB leaves room for extended negotiation
    #: and an identity token.
    associate_pdu: int = 1 << 20
    #: Presentation contexts in one A-ASSOCIATE: odd IDs 1 to 255 (PS3.8 9.3.2.2).
    presentation_contexts: int = 128
    #: Transfer syntaxes proposed in one presentation context.  The standard has some 60;
    #: without a bound, short names of no syntax would take ten times their length in memory.
    transfer_syntaxes: int = 128
    #: The maximum length we announce (PS3.8 D.1.1); 0 announces no limit.
    #: 131,072 is the most that DCMTK sends.
    max_pdu_length: int = 131_072
    #: What is received when 0 (no limit) is announced: the length field can say 4 GiB,
    #: and though P-DATA is never gathered, no real peer sends more than this.
    unlimited_pdu_length: int = 1 << 30
    #: One command set (PS3.7 E).  The largest real ones, with full lists of
    #: offending elements and a comment, stay below 2 KB.
    command_set: int = 64 << 10
    #: A C-FIND, C-MOVE or C-GET identifier: a list of 16,000 UIDs.
    identifier: int = 1 << 20
    #: Steps of reading an identifier: elements, items and the ends of items and sequences.
    #: 10,000 references of a storage commitment; a megabyte of empty ones takes forty.
    identifier_elements: int = 40_000
    #: Fragments without data in one message: legal, useless, and work for us.
    empty_fragments: int = 1_000
    #: Sequences within sequences when a data set is scanned: each open one is remembered.
    nesting: int = 64
    #: Inflated bytes that may be held at once while scanning.
    inflate_window: int = 1 << 17
    #: One value that the scanner is asked to keep: of longer ones, the first so many bytes.
    kept_value: int = 64 << 10


DEFAULT_LIMITS = Limits()
