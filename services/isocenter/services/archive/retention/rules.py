"""Rules for how long studies are kept."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deletion.ports import Obstacles


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Which studies are past their time: all that is set has to be so.

    Attributes:
        modalities: all of the study's are among these; empty: any.
        study_days: Study Date is longer ago, in all that its objects say.
        arrived_days: its last object came longer ago.
        unused_days: nobody has retrieved of it for so long, and nothing of it came.
        keep_newest: it is none of the newest so many studies (with these modalities) of its
            patient.
        disk_percent: the disk, or the quota, is fuller than that; then so much goes as brings it
            down to that, of what is past its time that which was not used for the longest.
        although_promised: also what was promised to be kept (storage commitment).
        routed_by: the rule for what comes that has matched all of its objects; empty: it is no
            matter which have.
        conditions: under which that rule matches (`conditions.fingerprint_of`); what it has matched
            under others is not meant.
        forwarded_days: all destinations that rules named have had all of it for so long.
    """

    name: str
    modalities: tuple[str, ...] = ()
    study_days: int = 0
    arrived_days: int = 0
    unused_days: int = 0
    keep_newest: int = 0
    disk_percent: int = 0
    forwarded_days: int = 0
    although_promised: bool = False
    routed_by: str = ""
    conditions: str = ""

    def in_words(self) -> list[str]:
        """What has to be so, a piece for each."""
        pieces = (
            (self.routed_by, f"the rule {self.routed_by} has matched all of it"),
            (self.modalities, f"all of it is {', '.join(self.modalities)}"),
            (self.study_days, f"its date is more than {self.study_days} days ago"),
            (self.arrived_days, f"nothing of it has come for {self.arrived_days} days"),
            (
                self.forwarded_days,
                f"all destinations have had it for {self.forwarded_days} days",
            ),
            (self.unused_days, f"nobody has retrieved of it for {self.unused_days} days"),
            (self.keep_newest, f"it is none of the newest {self.keep_newest} of its patient"),
            (self.disk_percent, f"the disk is fuller than {self.disk_percent} %"),
            (self.although_promised, "also what was promised to be kept"),
        )
        return [text for is_set, text in pieces if is_set]

    def may_delete(self, obstacles: Obstacles) -> bool:
        """Whether a study with *obstacles* may go."""
        if obstacles.held or obstacles.asked or obstacles.queued:
            return False
        return self.although_promised or not obstacles.promised
