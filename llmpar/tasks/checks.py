"""What can be wrong with an answer, told from its text. Knows no model, no segment, and not what was asked.

An answer's talk is judged by the way it opens, and its source can excuse it: who translates an apology must apologise.
Only the openings are searched, so that no text, however long or hostile, takes more than linear time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, get_args

from llmpar.errors import UsageError
from llmpar.tasks.codes import find_lost_code
from llmpar.tasks.invariants import first_lost, invariants_in
from llmpar.tasks.invented import find_invented, may_invent

CheckName = Literal["empty", "echo", "length", "loop", "preamble", "refusal", "ratio", "invariants"]
CHECKS: tuple[CheckName, ...] = get_args(CheckName)
CONFIDENCE = "confidence"
"""The check that knows what no text tells: `confidence:0.8` among the checks fails what the model was less sure of."""
DEFAULT_CHECKS: frozenset[str] = frozenset({"empty", "loop"})

_SETS_KEPT = 64  # of checks, which most runs have one of
_OPENING = 400  # characters that tell how a text opens
_FEWEST_WORDS = 3  # of a source that cannot stay itself in translation
_MOST_GROWTH, _MARGIN = 4.0, 80  # Latin characters; short sources grow most: an abbreviation is spelled out
_MOST_SHRINKING, _LONG_ENOUGH = 5.0, 60
_WIDE_SIZE = 2.5  # Latin characters that say what a Chinese or Japanese one says
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003fffd]+")
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # letters and marks that draw nothing
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})


def parse_checks(text: str, default: frozenset[str]) -> frozenset[str]:
    """Return the checks that a comma-separated list names, and the default ones unless "none" is among the names.

    Raises:
        UsageError: a name is none of a check, or a confidence is none.
    """
    names = {name.strip() for name in text.split(",")} if text.strip() else set()
    sure = {name for name in names if name.partition(":")[0] == CONFIDENCE}
    if len(sure) > 1:
        raise UsageError(f"check {sorted(sure)[1]!r}: a confidence is given twice; leave one out")
    least_confidence(sure)
    if unknown := sorted(names - {*CHECKS, *sure, "none"}):
        raise UsageError(
            f"check {unknown[0]!r}: no such check; there are {', '.join(CHECKS)}, {CONFIDENCE}:0.8, "
            f"and none, which drops those made by default ({', '.join(sorted(default))})"
        )
    return frozenset(names - {"none"}) | (frozenset() if "none" in names else default)


def least_confidence(checks: Iterable[str]) -> float | None:
    """Return the confidence that answers must have by some checks, from 0 to 1; None if none asks for it.

    Raises:
        UsageError: it is no such number.
    """
    return _least_confidence(frozenset(checks))


@lru_cache(_SETS_KEPT)
def _least_confidence(checks: frozenset[str]) -> float | None:
    for name in checks:
        if name.partition(":")[0] == CONFIDENCE:
            try:
                least = float(name.partition(":")[2])
            except ValueError:
                least = 0.0
            if not 0 < least <= 1:  # nor NaN
                raise UsageError(f"check {name!r}: needs a number above 0, up to 1, such as {CONFIDENCE}:0.8")
            return least
    return None


def find_fault(checks: frozenset[str], source: str, answer: str, finish_reason: str) -> str | None:
    """Return the first fault of an answer, in the order of `CHECKS`, as a clause for people; None if all is well.

    Args:
        checks: those to make.
        source: what the answer is about.
        answer: the answer.
        finish_reason: why it ended: "stop", "length" or "loop".
    """
    for name in CHECKS:
        if name in checks and (fault := _FINDERS[name](source, answer, finish_reason)):
            return fault
    return None


def _empty(source: str, answer: str, _: str) -> str | None:
    # What cannot be seen may answer what cannot be seen either.
    return "the answer is empty" if not _visible(answer) and _visible(source) else None


def _visible(text: str) -> bool:
    if text[:1].isascii() and text[:1].isalnum():  # as nearly all answers open
        return True
    return any(
        char not in _INVISIBLE and unicodedata.category(char) not in _INVISIBLE_CATEGORIES and not _selects(char)
        for char in text
    )


def _selects(char: str) -> bool:
    """Tell whether a character only chooses how the one before it is drawn."""
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _echo(source: str, answer: str, _: str) -> str | None:
    # Names and numbers stay themselves in translation, so capitalised words speak for nothing.
    num_words = sum(word.isalpha() and not word[0].isupper() for word in map(_bare, source.split()))
    num_words += sum(map(len, _WIDE.findall(source))) // 3
    if num_words < _FEWEST_WORDS or _said(source) != _said(answer):
        return None
    return "the answer repeats its source"


def _said(text: str) -> str:
    # Character by character, as normalizing a text of nothing but accents takes quadratic time.
    return _bare(" ".join("".join(unicodedata.normalize("NFKD", char) for char in text).casefold().split()))


def _bare(text: str) -> str:
    """Return a text without the quotes, brackets and white space around it."""
    start = _after_noise(text)
    return text[start : max(start, len(text) - _after_noise(text[::-1]))]


def _length(_: str, __: str, finish_reason: str) -> str | None:
    return "the answer reached its limit" if finish_reason == "length" else None


def _loop(_: str, __: str, finish_reason: str) -> str | None:
    return "the answer repeats itself" if finish_reason == "loop" else None


def _ratio(source: str, answer: str, _: str) -> str | None:
    before, after = _size(source), _size(answer)
    if after > _MOST_GROWTH * before + _MARGIN:
        return "the answer is far longer than its source"
    if before >= _LONG_ENOUGH and after < before / _MOST_SHRINKING:
        return "the answer is far shorter than its source"
    return None


def _size(text: str) -> float:
    """Return how much a text says, in Latin characters; the white space of a layout says nothing."""
    solid = "".join(text.split())
    return len(solid) + (_WIDE_SIZE - 1) * sum(map(len, _WIDE.findall(solid)))


def _invariants(source: str, answer: str, _: str) -> str | None:
    if code := find_lost_code(source, answer):
        return f"the answer lost {code}"
    there, invents = list(invariants_in(source)), may_invent(source, answer)
    here = list(invariants_in(answer)) if invents or any(one.counts for one in there) else []
    if lost := first_lost(there, here):
        return f"the answer lost {lost}"
    invented = find_invented(source, answer, there, here) if invents else None
    return None if invented is None else f"the answer has {invented}, which is not in its source"


def _preamble(source: str, answer: str, _: str) -> str | None:
    opening = _opening(answer)
    if not any(sign.match(opening) and not excuse.search(_opening(source)) for sign, excuse in _PREAMBLES):
        return None
    return "the answer opens with talk about itself"


def _refusal(source: str, answer: str, _: str) -> str | None:
    opening = _opening(answer)
    if not any(sign.match(opening) and not excuse.search(_opening(source)) for sign, excuse in _REFUSALS):
        return None
    return "the answer is a refusal"


_FINDERS: dict[CheckName, Callable[[str, str, str], str | None]] = {
    "empty": _empty,
    "echo": _echo,
    "length": _length,
    "loop": _loop,
    "preamble": _preamble,
    "refusal": _refusal,
    "ratio": _ratio,
    "invariants": _invariants,
}

_NOISE = re.compile(r"[\W_]*")
_FOLD = str.maketrans("’ʼ‘`´", "'''''", '*"“”„«»_#')
_SPACES = re.compile(r"[^\S\n]+")


def _after_noise(text: str) -> int:
    noise = _NOISE.match(text)
    assert noise is not None
    return noise.end()


def _opening(text: str) -> str:
    """Return the beginning of a text as the patterns below know it: no case, no markup, no quotes, plain spaces."""
    start = _after_noise(text)
    head = unicodedata.normalize("NFKC", text[start : start + _OPENING])
    return _SPACES.sub(" ", head.casefold().translate(_FOLD)).replace("\r", "\n")


def _words(*words: str) -> str:
    """Return a pattern for any of the words: whole ones, but where a script has no spaces between them."""
    spaced = "|".join(word for word in words if word[0] < "\u3000")
    spaceless = "|".join(word for word in words if word[0] >= "\u3000")
    return rf"(?:(?<!\w)(?:{spaced})(?!\w)|(?:{spaceless}))" if spaceless else rf"(?<!\w)(?:{spaced})(?!\w)"


_ASSENT = _words(
    *("sure", "sure thing", "certainly", "of course", "absolutely", "gladly", "no problem", "understood", "okay", "ok"),
    *("natürlich", "selbstverständlich", "aber gerne?", "gerne?", "klar", "na klar", "sicher", "kein problem"),
    *("bien sûr", "certainement", "avec plaisir", "d'accord", "volontiers", "pas de problème"),
    *("claro", "claro que sí", "por supuesto", "desde luego", "con gusto"),
    *("certo", "certamente", "naturalmente", "volentieri", "con piacere", "claro que sim", "com certeza", "com prazer"),
    *("好的", "好", "当然", "當然", "当然可以", "没问题", "沒問題", "もちろん", "もちろんです", "はい"),
    *("承知しました", "かしこまりました", "了解しました", "わかりました"),
)
# What a text says where its translation opens with one of those.
_ASSENTING = _words(
    *("yes", "yeah", "right", "indeed", "naturally", "surely", "obviously", "i see", "i understand", "all right"),
    *("ja", "jawohl", "doch", "gewiss", "freilich", "allerdings", "verstanden", "alles klar", "in ordnung", "gut"),
    *("oui", "évidemment", "naturellement", "bien entendu", "entendu", "compris", "certes", "sí", "naturalmente"),
    *("evidentemente", "bueno", "vale", "sì", "ovviamente", "d'accordo", "va bene", "sim", "tudo bem", "entendido"),
    *("да", "конечно", "разумеется", "хорошо", "ладно", "tak", "oczywiście", "jasne", "dobrze", "natuurlijk", "zeker"),
    *("självklart", "naturligtvis", "selvfølgelig", "tietysti", "tabii", "elbette", "tamam", "нет проблем"),
    *("是", "嗯", "行", "对", "自然", "うん", "ええ", "勿論"),
    *("그럼", "물론", "네", "예", "نعم", "بالطبع", "طبعا", "हाँ"),
)
_POINTER = _words(
    *("here", "here's", "below", "the following", "this is", "i've", "i have", "let me"),
    *("hier", "nachfolgend", "im folgenden", "folgend", "unten", "dies ist", "das ist", "ich habe"),
    *("voici", "voilà", "ci-dessous", "c'est", "aquí", "a continuación", "esta es", "ecco", "di seguito", "questa è"),
    *("aqui", "a seguir", "segue", "abaixo", "esta é"),
    *("以下", "下面", "这是", "這是", "这里", "這裡", "こちら", "これは", "次", "下記"),
)
_OFFER = (
    r"(?:i (?:can|will)|i'll|let me) (?:help|assist|translate|summari[sz]e|rewrite|correct|do that)"
    r"|i'?d be (?:happy|glad)|ich (?:helfe|übersetze|kann)|je (?:peux|vais)|puedo|posso|eu posso|我(?:来|來|会|會|可以)"
)
_WORK = _words(
    *("translations?", "translated", "summary", "summari[sz]ed", "rewritten", "revised", "paraphrased?", "corrected"),
    *("übersetzung", "übersetzte?n?", "zusammenfassung", "zusammengefasste?", "überarbeitete?", "korrigierte?"),
    *("traduction", "traduite?", "résumée?", "reformulée?", "reformulation", "corrigée?"),
    *("traducción", "traducid[oa]", "resumen", "resumid[oa]", "corregid[oa]", "reescrit[oa]"),
    *("traduzione", "tradott[oa]", "riassunto", "riscritt[oa]", "tradução", "traduzid[oa]", "resumo", "corrigid[oa]"),
    *("翻译", "翻譯", "译文", "譯文", "摘要", "总结", "總結", "概括", "改写", "翻訳", "訳文", "要約", "まとめ"),
)
_LABEL = (
    r"(?:in |auf |en )?(?:english|german|french|spanish|italian|portuguese|chinese|japanese|deutsch|englisch"
    r"|französisch|spanisch|italienisch|français|anglais|allemand|espagnol|español|inglés|francés|alemán|italiano"
    r"|inglese|francese|tedesco|português|inglês|francês|中文|英文|英语|法语|德语|日语|日本語|英語"
    r"|answer|response|output|antwort|ausgabe|réponse|respuesta|risposta|resposta|答案|回答|答え)"
)
_CLAUSE = r"[^:.!?。！？\n]"
# How chat opens, and what excuses it where the source opens with it.
_PREAMBLES = (
    # "Sure!", but "Sure, …" only where the answer goes on about itself: sentences open like that, too.
    (
        re.compile(rf"{_ASSENT}(?: ?[!:.~。\n]\s*\S| ?[,;、\u2013\u2014-] ?(?:{_POINTER}|{_OFFER}))"),
        re.compile(rf"{_ASSENT}|{_ASSENTING}"),
    ),
    # "Here is the translation:"
    (re.compile(rf"{_POINTER}{_CLAUSE}{{0,120}}?{_WORK}{_CLAUSE}{{0,80}}[:\n]"), re.compile(_WORK)),
    # "The summary is:", unless the source has a colon early, too: it may say just that in a language not known here.
    (re.compile(rf"{_CLAUSE}{{0,24}}?{_WORK}{_CLAUSE}{{0,24}}:"), re.compile(rf"{_WORK}|{_CLAUSE}:")),
    (re.compile(rf"{_LABEL} ?:\s*\S"), re.compile(rf"{_CLAUSE}:")),
)

_SORRY = (
    r"(?:(?:i'm|i am|we're|we are) (?:\w+ )?(?:sorry|afraid)|sorry|apologies|(?:i|we) apologi[sz]e|my apologies"
    r"|unfortunately|es tut mir leid|tut mir leid|entschuldigung|ich bitte um entschuldigung|leider|bedauerlicherweise"
    r"|(?:je suis )?(?:\w+ )?désolée?|je m'excuse|je regrette|malheureusement|lo siento|lo lamento|lamentablemente"
    r"|disculp\w+|perdón|mi dispiace|sono spiacente|scus\w+|purtroppo|desculp\w+|lamento|sinto muito|infelizmente"
    r"|(?:很|非常|十分)?(?:抱歉|对不起|對不起|遗憾|遺憾)|不好意思|(?:大変)?申し訳|すみません|すいません|ごめん|恐れ入り)"
)
_UNABLE = (
    r"(?:(?:i|we)(?: can't| cannot| can not| won't|(?:'m| am|'re| are) (?:unable|not able))"
    r"|kann ich|ich kann|können wir|wir können|je ne (?:peux|suis pas en mesure|pourrai)|nous ne pouvons"
    r"|no (?:puedo|podemos|me es posible)|non (?:posso|possiamo|sono in grado)|não (?:posso|podemos|consigo|é possível)"
    r"|无法|無法|不能|不可以|没办法|できません|出来ません|できない|致しかね|いたしかね)"
)
_SERVICE = (
    r"(?:(?:i|we)(?: can't| cannot| can not| won't|'m unable to| am unable to|'m not able to| am not able to)"
    r" (?:be able to )?(?:assist|help (?:you )?with|fulfil|comply|translate|summari[sz]e|provide|generate|process"
    r"|complete th|complete your|create|continue with|answer th|answer your|engage|discuss|produce|rewrite|do that)"
    r"|ich kann .{0,60}?(?:nicht|keine?) .{0,40}?(?:helfen|übersetzen|zusammenfassen|erfüllen|beantworten|bearbeiten)"
    r"|je ne (?:peux|suis) pas .{0,30}?(?:aider|traduire|résumer|répondre|fournir|satisfaire|assister)"
    r"|no puedo (?:ayudar|asistir|traducir|cumplir|proporcionar|responder|resumir)"
    r"|non posso (?:aiut|assist|tradur|forni|rispond|soddisf|riassum)"
    r"|não (?:posso|consigo) (?:te |lhe )?(?:ajud|auxili|traduz|fornec|respond|cumpri|resum)"
    r"|我?(?:无法|無法|不能).{0,6}?(?:翻译|翻譯|帮|幫|协助|協助|回答|提供|完成|总结|總結|满足)"
    r"|.{0,20}?(?:お答え|お手伝い|翻訳|対応|要約)(?:する)?(?:こと)?(?:は|が)?でき(?:ません|ない))"
)
_MACHINE = (
    r"(?:(?:as|i'm|i am)(?: just| only)? an? (?:ai\b|artificial intelligence|(?:large )?language model"
    r"|(?:virtual|digital) assistant)"
    r"|als (?:eine? )?(?:ki\b|ai\b|künstliche intelligenz|(?:grosses )?sprachmodell)"
    r"|en tant (?:que |qu')(?:ia\b|intelligence artificielle|modèle de lang|assistant virtuel)"
    r"|como (?:uma? |una? )?(?:ia\b|inteligencia artificial|inteligência artificial|modelo de (?:lenguaje|linguagem))"
    r"|(?:in quanto|come) (?:ia\b|intelligenza artificiale|modello (?:linguistico|di lingua))"
    r"|作[为為].{0,6}?(?:ai|人工智[能慧]|语言模型|語言模型)"
    r"|(?:私は)?(?:ai|人工知能|(?:大規模)?言語モデル)(?:言語モデル|アシスタント)?(?:として|なので|である|ですので))"
)
# What a text says where its translation apologises or says what cannot be done, also in languages not known above.
_REGRET = (
    r"sorry|apolog|regret|afraid|unfortunate|pardon|forgive|excuse|cannot|can not|(?:ca|could|wo)n't|unable|not able"
    r"|\bleid\b|leider|bedau|entschuld|verzeih|kann\b.{0,80}?\b(?:nicht|kein)|könn\w+\b.{0,80}?\b(?:nicht|kein)"
    r"|désol|excus|regrett|malheureu|\bne (?:peu|pou|sui|sau)|n'arriv|siento|disculp|perd[oó]n|lament"
    r"|no (?:pued|pod)|dispiac|spiacent|scus|purtroppo|non (?:pos|pu|riesc|sono)|desculp|infeliz|sinto"
    r"|não (?:pos|pod|cons)|抱歉|对不起|對不起|遗憾|遺憾|不好意思|无法|無法|不能"
    r"|申し訳|すみません|すいません|ごめん|恐れ入り|でき(?:ません|ない)|извин|прост[иi]т|сожален|жаль|не мо[гж]|нельзя"
    r"|przykro|przepraszam|niestety|nie mog|spijt|helaas|kan .{0,40}?niet|ledsen|tyvärr|beklager|desværre|dessverre"
    r"|kan (?:inte|ikke)|valitettavasti|üzgün|maalesef|bohužel|omlouv"
    r"|죄송|미안|유감|수 없|آسف|للأسف|عذر|لا (?:أستطيع|يمكن)|क्षमा|माफ|नहीं"
)
_ON_MACHINES = (
    r"(?<!\w)(?<!j')(?:ai|ki|ia|llms?)(?!\w)|chatbot|chatgpt|artificial intelligence|language model"
    r"|künstliche intelligenz|sprachmodell|intelligence artificielle|modèle de lang|inteligencia artificial"
    r"|inteligência artificial|modelo de l|intelligenza artificiale|modello|人工智|语言模型|語言模型"
    r"|人工知能|言語モデル|искусственн|sztuczn|virtual assistant|digital assistant|assist"
)
_REFUSALS = (
    (re.compile(rf"(?:{_SORRY}.{{0,40}}?{_UNABLE}|{_SERVICE})", re.DOTALL), re.compile(_REGRET, re.DOTALL)),
    (re.compile(_MACHINE), re.compile(_ON_MACHINES)),
)
