"""Grammar of the conditions of PS3.3: English sentences in, expressions out.

An expression is a list, so that JSON holds it:

    ["present", tag]                       the element is there, empty or not
    ["valued", tag]                        it is there and not empty
    ["is", tag, number, [value, …]]        value *number* (0: any) is one of these
    ["greater", tag, number, limit]        value *number* (0: the first) is greater
    ["private", tag]                       a value is the tag of a private element
    ["code", tag, [[code, scheme], …]]     an item of the sequence is one of these codes
    ["not", e]   ["and", e, …]   ["or", e, …]
    ["false"]                              never by what a data set says
    ["here", tag]                          the element is there, in this very item
    ["first", tag]                         this is the first item of that sequence
    ["dimension", tag]                     a dimension index points to the element
    ["unknown"]                            what no data set says

A sentence of which one part only can be known ("the reference does not apply to all frames, and
Referenced Segment Number is not present") becomes an expression with ``unknown`` in the place of
the rest: it is judged where the known part decides.  Those phrases are listed one by one
(`_UNKNOWABLE`), as whatever is not understood could be anything.

What is no sentence of this grammar is no expression: it is counted, and shown as *not judged*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Expression = list[Any]
#: An attribute in a sentence, once its name and tag were replaced.
REFERENCE = "§([0-9a-f]{8})"
#: What stands around a reference and changes nothing.
_OF = (
    r"(?:the )?(?:values? (?:(?:of|for) )?)?(?:the )?(?:[Aa]ttributes? )?(?:values? (?:of|for) )?"
    r"(?:the )?"
)
_PLACE = (
    r"(?: in the [A-Z][A-Za-z0-9 /-]+ (?:[Mm]odule|Macro)| in any [A-Z][A-Za-z0-9 /-]+ Functional Group"
    r"(?: in the SOP Instance)?| of this frame| of the frame| at the image level| in this item| of this item"
    r"| in the same item| in this sequence item| of the image| in this image| sequence"
    r"| attribute| attributes| value| values)*"
)
_WORD_NUMBERS = {"first": 1, "second": 2, "third": 3, "fourth": 4}
_VALUE = (
    r"(?:[\"“”']+[^\"“”']{1,64}[\"“”']+|-?[0-9]+(?:\.[0-9]+)*\b|[0-9][A-Z][A-Z0-9_]*\b|[A-Z][A-Z0-9_+\-/]*"
    r"(?: [A-Z0-9][A-Z0-9_]*)*(?![a-z]))"
)
_SPLIT_VALUES = re.compile(rf"(?:,? or |,? nor |, )?({_VALUE})")
_VALUES = (
    rf"((?:either )?{_VALUE}(?:(?:, or | or |, nor | nor |, )(?:equals? (?:to )?|is )?{_VALUE})*)"
)
#: Phrases about what is outside of the data set, or in nothing of it.
_UNKNOWABLE = re.compile(
    r"(?:the Referenced SOP Instance is a (?:multi-frame image|Segmentation or Surface Segmentation"
    r"|Segmentation|Waveform(?: that contains multiple Channels)?)"
    r"|the reference does not apply to all (?:frames|segments)"
    r"|not all Channels in the Waveform are referenced"
    r"|accessory is (?:mounted on a holder device|located in a slot)"
    rf"|the referenced Accessory Holder Device contains an {REFERENCE}"
    r"|the conditions in Section C\.[0-9.]+[0-9] are satisfied"
    r"|the Conceptual Volume is not a Combination of other Conceptual Volumes"
    r"|the [Pp]atient is an animal|coding scheme is registered|contrast media was applied"
    rf"|the Attribute referenced by the {REFERENCE} is a Code Sequence"
    rf"|(?<=and ){REFERENCE} is a Code Sequence"
    r")(?=,? and |,? or |[,.]|$)"
)
UNKNOWN: Expression = ["unknown"]


def tags_in(expression: Expression) -> Iterator[str]:
    """The attributes that *expression* asks for."""
    if expression[0] in ("and", "or", "not"):
        for inner in expression[1:]:
            yield from tags_in(inner)
    elif expression[0] not in ("false", "unknown"):
        yield expression[1]


def is_partial(expression: Expression) -> bool:
    """Whether it depends also on what no data set says."""
    if expression[0] in ("and", "or", "not"):
        return any(is_partial(inner) for inner in expression[1:])
    return expression[0] == "unknown"


def expression_of(text: str, *, is_negated: bool = False) -> Expression | None:
    """What one condition says; None: it is no sentence of the grammar."""
    text = re.sub(r"\s*\(?[Ss]ee (?:also )?(?:Section|Note|PS3|Table).*$", "", text)
    text = text.strip(" .,;:")
    if text.endswith(")") and text.count(")") > text.count("("):
        text = text[:-1].strip(" .,;:")
    # What a UID is called: `Segmentation Storage ("1.2…")`, `"1.2…" (Legacy Converted …)`.
    text = re.sub(r"(?<= )[A-Z][A-Za-z\- ]+ \((\"[0-9.]+\")\)", r"\1", text)
    text = re.sub(r"(?<=[ \"”A-Z0-9])\((?:[A-Z]?[A-Za-z\-]{3,}[A-Za-z\- ]*)\)", "", text)
    text = re.sub(r"(?<=[0-9\"] )\([A-Z]{2} [A-Za-z\- ]+\)", "", text)
    text = re.sub(r"(?<=\") ? and not (?=\")", " or ", text)
    text = re.sub(rf"({REFERENCE}) exists\b", r"\1 is present", text)
    text = text.replace(" equals other than ", " is other than ").replace(" is EQUAL to ", " is ")
    text = re.sub(r" contains either (?=\()", " contains ", text)
    text = re.sub(r"\s+", " ", re.sub(r" +,", ",", text)).strip()
    text = text.replace("satisfiedand ", "satisfied and ")
    text = re.sub(r", overriding \(specializing\) .*$", "", text)
    parsed = _Parser(text).whole()
    if parsed is not None and is_partial(parsed):
        parsed = None if parsed == UNKNOWN else _local(parsed)
    if parsed is None:
        return None
    return ["not", parsed] if is_negated else parsed


def can_be_known(expression: Expression) -> tuple[bool, bool]:
    """Whether it can be known to be true, and to be false."""
    kind = expression[0]
    if kind == "unknown":
        return False, False
    if kind == "not":
        can_be_true, can_be_false = can_be_known(expression[1])
        return can_be_false, can_be_true
    if kind in ("and", "or"):
        found = [can_be_known(inner) for inner in expression[1:]]
        every, some = (0, 1) if kind == "and" else (1, 0)
        outcome = [False, False]
        outcome[every] = all(each[every] for each in found)
        outcome[some] = any(each[some] for each in found)
        return outcome[0], outcome[1]
    return True, True


def _local(expression: Expression) -> Expression | None:
    """An expression that is known in part, such that nothing of it is looked for elsewhere: what is
    missing here may be there in an item around it, where it means another thing."""
    kind = expression[0]
    if kind == "not":
        inner = expression[1]
        return ["not", ["here", inner[1]]] if inner[0] == "present" else None
    if kind == "or":
        # "A or B and C" could be read either way; where all is known, as it is written.
        return None if is_partial(expression) else expression
    if kind == "and":
        terms = [_local(inner) for inner in expression[1:]]
        return None if None in terms else [kind, *terms]
    return expression


_REF = (
    rf"{_OF}(?:[Vv]alue (?P<before>\d) (?:of|in) |(?P<word>first|second|third|fourth) (?:value |component )?of )?"
    rf"(?:the )?{REFERENCE.replace('(', '(?P<tag>', 1)}"
    rf"(?:,? \(?[Vv]alue (?P<after>\d)\)?)?{_PLACE}"
)


class _Parser:
    """Recursive descent over the text; each rule gives an expression and where it ended."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._rules: tuple[Callable[[int], tuple[Expression, int] | None], ...] = (
            self._several,
            self._codes,
            self._private,
            self._pointer,
            self._presence,
            self._comparison,
            self._equality,
            self._unknowable,
        )

    def whole(self) -> Expression | None:
        found = self._or(0)
        if found is None or self.text[found[1] :].strip(" .,"):
            return None
        return found[0]

    def _joined(
        self, at: int, inner: Callable[[int], tuple[Expression, int] | None], joint: str, name: str
    ) -> tuple[Expression, int] | None:
        first = inner(at)
        if first is None:
            return None
        terms, at = [first[0]], first[1]
        while match := re.compile(joint).match(self.text, at):
            more = inner(match.end())
            if more is None:
                break
            terms.append(more[0])
            at = more[1]
        return (terms[0] if len(terms) == 1 else [name, *terms]), at

    def _or(self, at: int) -> tuple[Expression, int] | None:
        return self._joined(at, self._and, r",? (?:and/or|or)(?: if| when)? (?:either )?", "or")

    def _and(self, at: int) -> tuple[Expression, int] | None:
        return self._joined(at, self._atom, r",? (?:and|but)(?: if| when)? |, (?=§)", "and")

    def _atom(self, at: int) -> tuple[Expression, int] | None:
        if match := re.compile(r"(?:either |both |if |when )").match(self.text, at):
            at = match.end()
        if self.text[at : at + 1] == "(":
            inner = self._or(at + 1)
            if inner is not None and self.text[inner[1] : inner[1] + 1] == ")":
                return inner[0], inner[1] + 1
        for rule in self._rules:
            found = rule(at)
            if found is not None:
                return found
        return None

    def _match(self, pattern: str, at: int) -> re.Match[str] | None:
        return re.compile(pattern).match(self.text, at)

    def _unknowable(self, at: int) -> tuple[Expression, int] | None:
        match = _UNKNOWABLE.match(self.text, at)
        return None if match is None else (UNKNOWN, match.end())

    @staticmethod
    def _number(match: re.Match[str]) -> int:
        groups = match.groupdict()
        if groups.get("word"):
            return _WORD_NUMBERS[groups["word"]]
        return int(groups.get("before") or groups.get("after") or 0)

    def _several(self, at: int) -> tuple[Expression, int] | None:
        """``A, B and C are not present``, ``either A or B is present``, ``neither A nor B``."""
        match = self._match(
            rf"(?P<neither>neither )?(?P<list>{_OF}{REFERENCE}{_PLACE}"
            rf"(?:(?:, and |, or |, nor |,? and/or | and | or | nor |, )(?:the |either )?{REFERENCE}{_PLACE})+)"
            rf" (?:is|are|is/are)(?P<both> both)? (?P<not>not |both not )?(?P<what>present|absent|included|supplied|specified)"
            rf"(?P<valued> and ha(?:s|ve) a (?:non-zero )?value| with a value)?",
            at,
        )
        if match is None:
            return None
        tags = re.findall(REFERENCE, match["list"])
        is_or = bool(re.search(r"\bor\b|\bnor\b", match["list"]))
        is_absent = bool(match["not"]) != (match["what"] == "absent")
        kind = "valued" if match["valued"] else "present"
        terms = [[kind, tag] for tag in tags]
        if match["neither"]:
            return ["not", ["or", *terms]], match.end()
        if is_absent:
            # "A or B is not present": one of them is missing.
            negated = [["not", term] for term in terms]
            return ["or" if is_or else "and", *negated], match.end()
        return ["or" if is_or else "and", *terms], match.end()

    def _codes(self, at: int) -> tuple[Expression, int] | None:
        match = self._match(
            rf"{_REF} (?:contains|has|is|equals?)(?: an [Ii]tem (?:with )?(?:the |a )?(?:value|code)(?: of| equal to)?| the (?:code|value)|)"
            r" (?P<codes>\([A-Za-z0-9.\-]+, ?[A-Za-z0-9.\-]+, ?[\"“][^\"”]+[\"”]\)"
            r"(?:(?:, or | or |, )\([A-Za-z0-9.\-]+, ?[A-Za-z0-9.\-]+, ?[\"“][^\"”]+[\"”]\))*)",
            at,
        )
        if match is None:
            return None
        codes = []
        for first, second in re.findall(
            r"\(([A-Za-z0-9.\-]+), ?([A-Za-z0-9.\-]+),", match["codes"]
        ):
            schemes = {"SCT", "DCM", "SRT", "UCUM", "LN", "SNM3", "99SDM", "RADLEX", "FMA"}
            codes.append([second, first] if first in schemes else [first, second])
        return ["code", match["tag"], codes], match.end()

    def _private(self, at: int) -> tuple[Expression, int] | None:
        """``… is the Data Element Tag of a Private Attribute``."""
        match = self._match(
            rf"(?:one or more of the values of )?{_REF} (?:contains|is) the Data Element Tag of a Private (?:Attribute|Data Element)",
            at,
        )
        return None if match is None else (["private", match["tag"]], match.end())

    def _pointer(self, at: int) -> tuple[Expression, int] | None:
        """``Frame Increment Pointer points to Frame Time or Frame Time Vector``."""
        match = self._match(
            rf"{_REF} (?:is|points to|contains|includes|equals)(?: the Tag (?:of|for))?"
            rf"(?P<tags> {_OF}{REFERENCE}(?:(?:, or | or |, ){_OF}{REFERENCE})*)(?= |$|[.,;)])",
            at,
        )
        if match is None:
            return None
        tags = [tag.upper() for tag in re.findall(REFERENCE, match["tags"])]
        return ["is", match["tag"], 0, tags], match.end()

    def _presence(self, at: int) -> tuple[Expression, int] | None:
        match = self._match(
            rf"{_REF} (?:is|are) (?P<not>not )?(?P<what>present|absent|included|supplied|specified|empty|"
            r"non-zero length|non-null|non-zero|zero[- ]length|known)(?P<more> and has a value of(?= )| with a value of(?= )"
            r"| with value(?= [A-Z])| and has the value(?= )| and (?:has|with) a value| and not empty| with a value"
            r"| and has a non-zero value| and (?:its|the) value is(?= )|, and the value is(?= )"
            r"| and (?:equals|is)(?= )(?! not present| absent))?",
            at,
        )
        if match is None:
            match = self._match(
                rf"{_REF} (?:has|have) (?P<what>a value|no value|a non-zero value|one or more Items)"
                r"(?! of| greater| other| equal| that)(?P<not>)(?P<more>)",
                at,
            )
        if match is None:
            return None
        tag, what = match["tag"], match["what"]
        more = match["more"] or ""
        if what == "known":
            return None
        if what in ("non-zero", "a non-zero value"):
            return ["and", ["valued", tag], ["not", ["is", tag, 0, ["0"]]]], match.end()
        if (
            more.endswith((" is", "equals", "a value of", "has the value", "with value"))
            and not match["not"]
        ):
            values = self._match(
                rf" (?P<not>not |other than )?(?:equal to )?{_VALUES}", match.end()
            )
            if values is None:
                return None
            test: Expression = ["is", tag, self._number(match), _values(values[2])]
            return (
                ["and", ["valued", tag], ["not", test]] if values["not"] else test
            ), values.end()
        kind = "present"
        is_negated = bool(match["not"])
        if what == "absent":
            is_negated = not is_negated
        elif what in ("empty", "zero-length", "zero length", "no value"):
            kind, is_negated = "valued", not is_negated
        elif (
            what in ("a value", "one or more Items", "non-zero length", "non-null")
            or "value" in more
            or "empty" in more
        ):
            kind = "valued"
        term: Expression = [kind, tag]
        if "non-zero" in more:
            term = ["and", ["valued", tag], ["not", ["is", tag, 0, ["0"]]]]
        if is_negated and kind == "present":
            also = self._match(
                r",? or (?:has a value of |has the value (?:of )?|equals |is )?"
                rf"(?P<not>not |other than )?{_VALUES}(?! (?:is|are|of|for|or §))",
                match.end(),
            )
            if also is not None:
                # "A is absent or equals X": the same subject.
                test = ["is", tag, self._number(match), _values(also[2])]
                test = ["not", test] if also["not"] else test
                return ["or", ["not", term], test], also.end()
        return (["not", term] if is_negated else term), match.end()

    def _comparison(self, at: int) -> tuple[Expression, int] | None:
        several = self._match(
            rf"{_OF}{REFERENCE} or {REFERENCE} is greater than (?P<limit>\d+(?:\.\d+)?)", at
        )
        if several is not None:
            limit = float(several["limit"])
            terms = [["greater", tag, 0, limit] for tag in several.groups()[:2]]
            return ["or", *terms], several.end()
        match = self._match(
            rf"{_REF} (?:is|has a value(?: that is)?|value is) ?(?P<how>greater than|more than|>|larger than|not equal to(?= \d)|less than)"
            r" (?P<limit>one\b|zero\b|-?\d+(?:\.\d+)?)",
            at,
        )
        if match is None:
            return None
        text = {"one": "1", "zero": "0"}.get(match["limit"], match["limit"])
        number = self._number(match)
        if match["how"].startswith("not"):
            return ["not", ["is", match["tag"], number, [text]]], match.end()
        if match["how"].startswith("less"):
            return [
                "and",
                ["valued", match["tag"]],
                [
                    "not",
                    [
                        "or",
                        ["greater", match["tag"], number, float(text)],
                        ["is", match["tag"], number, [text]],
                    ],
                ],
            ], match.end()
        return ["greater", match["tag"], number, float(text)], match.end()

    def _equality(self, at: int) -> tuple[Expression, int] | None:
        match = self._match(
            rf"(?:a value of |any value of |one of the values of )?{_REF},? "
            r"(?:is:?|are|equals?|=|has|have|contains?|includes?|does not equal|does not contain)"
            r"(?P<not> not(?: equal(?: to)?)?| other than| a value (?:of )?(?:other than|not equal to|different from)"
            r"| not set to| anything other than)?"
            r"(?: equal(?: to)?| to| set to| a value of| a value equal to| the values?(?: of)?| values?(?: of)?| one of the following values:?"
            r"| the value of| either| one of)*"
            rf" (?:either |only )?{_VALUES}",
            at,
        )
        if match is None:
            return None
        values = _values(match[match.re.groups])
        test: Expression = ["is", match["tag"], self._number(match), values]
        is_negated = bool(match["not"]) or "does not" in match[0]
        if match["not"] and "other" in match["not"]:
            return ["and", ["valued", match["tag"]], ["not", test]], match.end()
        return (["not", test] if is_negated else test), match.end()


def _values(text: str) -> list[str]:
    return [found.strip("\"“”'") for found in _SPLIT_VALUES.findall(text)]
