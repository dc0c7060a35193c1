"""Form in which a rule has objects leave: de-identified, changed, in another transfer syntax."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from isocenter.engine.fast_init import dataclass

if TYPE_CHECKING:
    from isocenter.services.archive.coercion.edits import Edit


@dataclass(frozen=True, slots=True)
class SentForm:
    """Changes of an object before it is sent; the archive keeps what it has.

    Attributes:
        project: of de-identification, under which it is sent; empty: as it is, or as the
            destination is given everything.
        edits: changes of attributes, after that.
        transfer_syntax_uid: in which it is sent where the destination takes it; empty: that is
            not said.
        fault: why it cannot be made; empty: maybe it can.
    """

    project: str = ""
    edits: tuple[Edit, ...] = ()
    transfer_syntax_uid: str = ""
    fault: str = ""

    def as_text(self) -> str:
        """All but the project, as text; empty: nothing."""
        if not self.edits and not self.transfer_syntax_uid:
            return ""
        from isocenter.services.archive.coercion.edit_tables import table_of_edit

        said = {
            "coerce": [table_of_edit(edit) for edit in self.edits],
            "transfer_syntax": self.transfer_syntax_uid,
        }
        return json.dumps(said)


#: An object leaves as it is.
AS_IT_IS: Final = SentForm()
#: Forms of which it is remembered what their text means.
_MOST_FORMS: Final = 200


@lru_cache(_MOST_FORMS)
def form_of(project: str, changes: str) -> SentForm:
    """The form of this project and `SentForm.as_text`; with a fault, where that is of another
    version of this program."""
    if not changes:
        return SentForm(project)
    from isocenter.services.archive.coercion.edit_tables import edits_of

    try:
        said = json.loads(changes)
        if said.keys() != {"coerce", "transfer_syntax"}:
            raise KeyError
        return SentForm(project, edits_of(said["coerce"]), said["transfer_syntax"])
    except (ValueError, KeyError):
        return SentForm(project, fault="this version cannot make what the rule wanted of it")
