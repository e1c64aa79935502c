"""Reporting clauses stay with their speech: "Really?" she asked; — Правда? — спросила она; 「はい。」と言った.

Where a script has capitals, the clause begins in lower case, unless it begins with a name. Where it has none, it is
known by its verb, which is one of a few.
"""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border

_QUOTES = frozenset("\"'”’“‘»«›‹」』")
_DASHES = ("-", "–", "—", "―")
# Names before the verb.
_ENGLISH = re.compile(
    r"(?!He |She |They |We |You |It |Nobody |Everybody |Somebody |No |Every|Some)"
    r"(?:(?:I|[A-Z][\w'’-]+\.?|[Tt]he|[Mm]y|[Hh]er|[Hh]is|old|young|little|man|woman|boy|girl) ){1,3}"
    r"(?:said|asked|cried|replied|answered|shouted|whispered|called|murmured|muttered|exclaimed|added|demanded|repeated"
    r"|yelled|screamed|inquired|enquired|wondered|insisted|continued|went on|agreed|snapped)"
    r"(?=[.,;:!?…]|\s(?:again|softly|quietly|loudly|aloud|in|to|with|as|at|from|after|and|back)\b"
    r"|\s\w+ly\b)"
)
# Languages whose clause follows with words that stand nowhere else.
_WORDS = {"turkish": frozenset({"diye", "dedi", "dedim", "demiş", "diyor", "diyordu", "der"})}
_JAPANESE = re.compile(r"(?:と|って|と、)(?=[\u3040-\u30ff\u3400-\u9fff、])")
_PARTICLE = re.compile("[をはがにのともでへや]|から|まで")  # behind a quotation that is a noun
_CHINESE = re.compile(
    r"[^。！？…，、；：“”「」『』\s]{0,8}(?<!知)(?:说|説|說|问|問|道|喊|叫|答|嚷|吼|骂|罵|叹|嘆)[^。！？…，、；：“”「」『』\s]{0,4}"
    r"[。，：；]"
)
_KOREAN = re.compile(
    r"(?:이?라고|하고|하며|고)\s|[\uac00-\ud7a3]{1,6}(?:\s[\uac00-\ud7a3]{1,6}){0,2}\s?"
    r"(?:말했다|물었다|대답했다|외쳤다|속삭였다|소리쳤다|말했습니다|물었습니다)[.,]"
)
_ARABIC = re.compile(
    r"(?:و|ف)?(?:قال|قالت|سأل|سألت|سأله|سألته|سألها|أجاب|أجابت|صاح|صاحت|همس|همست|رد|ردت|صرخ|صرخت|هتف|هتفت|تساءل|تساءلت)[\s.،]"
    r"|(?:[\u0600-\u06ff]+\s){0,2}(?:گفت|پرسید|پاسخ داد|فریاد زد)[.،]"
    r"|(?:[\u0600-\u06ff]+\s){0,3}(?:نے\s)?(?:کہا|پوچھا)[۔،]"
)
_HINDI = re.compile(r"(?:[\u0900-\u097f]+\s){0,4}(?:कहा|पूछा|बोला|बोली|बोले|चिल्लाया|चिल्लाई|फुसफुसाया|फुसफुसाई)\s?[।,]")
_MALAYALAM = re.compile(r"(?:[\u0d00-\u0d7f]+\s){0,3}(?:ചോദിച്ചു|പറഞ്ഞു|വിളിച്ചു|മന്ത്രിച്ചു)[.,]")
_CASELESS = {
    "h": (_JAPANESE, _CHINESE), "k": (_JAPANESE, _CHINESE), "g": (_KOREAN,), "a": (_ARABIC,), "d": (_HINDI,),
    "m": (_MALAYALAM,),
}  # fmt: skip


def goes_on(border: Border) -> bool | None:
    """Return False where what follows belongs to the speech before it."""
    if border.goes_on_low:
        # So it is behind a bracket that closes, too, and where a dash interrupts a sentence.
        if border.closers.strip("*_~`") or border.opener[:1] in _DASHES:
            return False
        # People write English in lower case throughout; in other languages, "? demanda-t-il" is much more frequent.
        if border.tables.language != "english" and not border.is_stop and not border.marks.strip("!?;\u037e"):
            return False
        if border.after in _WORDS.get(border.tables.language, ()):
            return False
    if not border.closers or _QUOTES.isdisjoint(border.closers) or border.opener.strip():
        return None
    # Behind a full stop it would be a sentence of its own: English writes a comma there.
    is_english = border.tables.language == "english" and not border.is_stop
    if is_english and border.goes_on_high and _ENGLISH.match(border.text, border.next):
        return False
    return False if is_clause(border.text, border.next) else None


def is_clause(text: str, at: int) -> bool:
    """Tell whether a reporting clause in a script without capitals begins at a place behind a quotation."""
    script = _script(text[at : at + 1])
    return any(pattern.match(text, at) for pattern in _CASELESS.get(script, ()))


def goes_on_after(text: str, end: int, behind: int) -> bool:
    """Tell whether a sentence in a script without spaces goes on behind a quotation or a bracket.

    Args:
        text: all of it.
        end: behind the closing sign, if there is one.
        behind: where the following text begins.
    """
    closer = text[end - 1 : end]
    if closer in _QUOTES and is_clause(text, behind):
        return True
    return (closer in _QUOTES or closer in "）》】") and _PARTICLE.match(text, end) is not None


def _script(char: str) -> str:
    if "\u0600" <= char <= "\u06ff":
        return "a"
    if "\u0900" <= char <= "\u097f":
        return "d"
    if "\u3040" <= char <= "\u30ff":
        return "k"
    if "\u3400" <= char <= "\u9fff":
        return "h"
    if "\u0d00" <= char <= "\u0d7f":
        return "m"
    return "g" if "\uac00" <= char <= "\ud7a3" else ""
