"""Sentences of PS3.3 that say when an attribute, or a module, is there.

What each says is an expression of `condition_grammar`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from condition_grammar import REFERENCE, UNKNOWN, Expression, can_be_known, expression_of, tags_in

_TAG = re.compile(r"\(([0-9A-Fa-f]{4})\s*[,.]\s*([0-9A-Fa-f]{4})\)")


def plain_text(markup: str) -> str:
    """The text of a description, without markup and with single blanks."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", markup))
    text = re.sub(r"\s+", " ", text.replace("\xa0", " ")).strip()
    return re.sub(r" +(?=[.,;])", "", text)


class Names:
    """Names of the data dictionary, to be found before a tag or without one."""

    def __init__(self, names: dict[str, str]) -> None:
        """*names*: tag in eight digits → name."""
        self._by_tag = names
        self.tags = frozenset(names)
        several = {name: tag for tag, name in names.items() if " " in name and len(name) > 9}
        ordered = sorted(several, key=len, reverse=True)
        self._tags = several
        self._bare = re.compile(r"\b(" + "|".join(map(re.escape, ordered)) + r")\b(?! ?[§(A-Z])")

    def marked(self, text: str) -> str:
        """*text* with ``§ggggeeee`` in the place of each attribute that it names."""
        pieces: list[str] = []
        at = 0
        for match in _TAG.finditer(text):
            tag = (match[1] + match[2]).lower()
            before = text[at : match.start()].rstrip()
            name = self._by_tag.get(tag, "")
            if name and before.lower().endswith(name.lower()):
                before = before[: -len(name)]
            else:
                # Another spelling: capitalised words directly before the tag.
                before = re.sub(
                    r"(?:(?<=^)|(?<=[ ,]))(?!Value \d)(?:[A-Z][\w\-/()']*|of|to|in|the|and|for|per|"
                    r"from|by)(?: (?:[A-Z0-9][\w\-/()']*|of|to|in|for|per|from|by|on))*$",
                    lambda found: found[0] if found[0] in {"of", "the", "and", "for"} else "",
                    before,
                )
            pieces += [before, f"§{tag}"]
            at = match.end()
        pieces.append(text[at:])
        marked = "".join(
            piece if n % 2 or not piece or piece.endswith((" ", "(")) else piece + " "
            for n, piece in enumerate(pieces[:-1])
        )
        whole = marked + pieces[-1]
        return self._bare.sub(lambda found: f"§{self._tags[found[1]].lower()}", whole)


_SENTENCE_END = re.compile(r"(?<=[a-z0-9A-Z)\"”\]])[.;] +(?=[A-Z]|may |shall |if )|\.$|;$")
_REQUIRED = re.compile(
    r"^(?:it is )?(?:required|shall be (?:present|included|provided)|must be present)"
    r" (?P<kind>only if|only when|if|when|unless|if and only if):? (?P<rest>.+)$",
    re.IGNORECASE,
)
_MAY = re.compile(
    r"^(?:it )?may (?:also )?be (?:present|included|provided|used)? ?otherwise(?P<rest>.*)$",
    re.IGNORECASE,
)
_MAY_IF = re.compile(
    r"^(?:it )?may be (?:present|included)(?: otherwise)?(?:,)?(?: only)? if (?P<rest>.+)$",
    re.IGNORECASE,
)
_NEVER_IF = re.compile(
    r"^(?:it )?shall not be (?:present|included) (?:if|when) (?P<rest>.+)$", re.IGNORECASE
)


class Condition:
    """What a description says of when an attribute, or a module, is there.

    Attributes:
        says: whether it has any condition.
        required: when it must be there; None: it was not understood.
        otherwise: ``may``, ``no``, or when it may.
        never: when it must not be there.
    """

    def __init__(self) -> None:
        self.says = False
        self.required: Expression | None = None
        self.otherwise: Any = "no"
        self.never: Expression | None = None


#: "Required for first Item of Control Point Sequence, or if the angle changes during Beam".
_FIRST = re.compile(
    rf"^(?:.*\. )?required for (?:the )?first item of (?:the )?{REFERENCE}(?:,? or if [^,;]+ changes during Beam)?$",
    re.IGNORECASE,
)


def condition_of(text: str, names: Names, tag: str = "") -> Condition:
    """What the plain *text* of a description says.

    Args:
        tag: of the attribute that it describes; empty: it describes none.
    """
    condition = Condition()
    found: list[Expression | None] = []
    for sentence in _sentences(names.marked(text)):
        if match := _REQUIRED.match(sentence):
            condition.says = True
            rest = re.split(r"[;,] (?=may be present|shall not be)", match["rest"])
            if tag and re.fullmatch(r"used as a dimension index[ .]*", rest[0]):
                found.append(["dimension", tag])
                rest[0] = ""
            if rest[0]:
                found.append(expression_of(rest[0], is_negated=match["kind"].lower() == "unless"))
            for more in rest[1:]:
                _otherwise(more, condition)
        elif match := _FIRST.match(sentence):
            condition.says = True
            found.append(["or", ["first", match[1]], UNKNOWN])
        elif re.search("required for (?:the )?first item", sentence, re.IGNORECASE):
            condition.says = True
            found.append(None)
        else:
            _otherwise(sentence, condition)
    understood = [each for each in found if each is not None]
    if understood and len(understood) < len(found):
        # Each sentence is enough; what one of them says is not known.
        understood.append(UNKNOWN)
    if understood:
        if not all(tag in names.tags for each in understood for tag in tags_in(each)):
            return condition  # a tag that is none
        required = understood[0] if len(understood) == 1 else ["or", *understood]
        can_be_met, can_be_unmet = can_be_known(required)
        if can_be_met or (can_be_unmet and condition.otherwise != "may"):
            condition.required = required
    if not found and condition.never is not None:
        # It never has to be there, and sometimes must not.
        condition.says, condition.required, condition.otherwise = True, ["false"], "may"
    return condition


def _otherwise(sentence: str, condition: Condition) -> None:
    sentence = sentence.strip()
    if match := _MAY.match(sentence):
        condition.otherwise = "may"
        if only := re.match(r",? only if (.+)$", match["rest"]):
            condition.otherwise = expression_of(only[1]) or "may"
    elif match := _MAY_IF.match(sentence):
        condition.otherwise = expression_of(match["rest"]) or "may"
    elif match := _NEVER_IF.match(sentence):
        condition.never = expression_of(match["rest"])
    elif re.match(r"^may be (present|used)", sentence, re.IGNORECASE):
        condition.otherwise = "may"


_CONDITION_BEGINS = re.compile(
    r"(?<=[a-zA-Z0-9)\"”]) (?=(?:Required (?:if|when|only|unless)|Shall be present|Shall not be present|May be present)\b)"
)
#: What may stand behind a condition in its sentence, and is none of it.
_BEHIND = re.compile(
    r"\s*(?:\bNotes?\b(?=:? [A-Z0-9\"§])|Enumerated Values?\b|Defined Terms?\b|See (?:Section|Note|PS3|Figure)"
    r"|Only a single Item|One or more Items|Two or more Items).*$"
)


def _sentences(text: str) -> Iterator[str]:
    text = re.sub(r"\b(?:i\.e\.|e\.g\.|etc\.)", lambda found: found[0].replace(".", ""), text)
    text = _CONDITION_BEGINS.sub(". ", text)
    for sentence in _SENTENCE_END.split(text):
        sentence = sentence.strip()
        if sentence.startswith("(") and sentence.endswith(")"):
            sentence = sentence[1:-1]
        # What comes before the condition in one sentence is not looked at.
        inner = re.search(
            r"(?i)(?:^|[,(] ?)((?:required|shall be present) (?:only )?(?:if|when)\b.*)", sentence
        )
        yield _BEHIND.sub("", inner[1] if inner else sentence)
