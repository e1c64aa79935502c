"""The language of a passage: guessed, as well as choosing a Punkt model needs, or told for sure. Knows no sentence."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# The words that are frequent in a language and rare in the others: articles, conjunctions, forms of "to be".
_FUNCTION_WORDS = {
    "czech": "že jsem jsou byl byla není jak když nebo ale který která jako jeho tak však při podle",
    "danish": "og det er af til ikke på med den har som blev fra hvad også efter mig meget",
    "dutch": "het een van niet dat zijn voor met ook maar hij naar wordt deze werd heeft omdat nog",
    "english": "the and of to is that was for with it as his are this have not from by you they which",
    "estonian": "ja ei see oli kui mis aga ning ka oma tema selle on siis veel nii kas",
    "finnish": "ja ei se että oli mutta kun hän joka myös ovat niin kuin vain sitä tämä tai",
    "french": "le la les des et est une que dans pour qui pas sur avec il ce au par sont était elle",
    "german": "der die und das ist nicht ein eine den von mit zu dem auf sich auch für wird im des war",
    "italian": "il di che è non una per con della sono gli nel anche più alla era come questo dei",
    "norwegian": "og det er av til ikke på med den har som ble fra hva også etter meg mye",
    "polish": "i w nie się na że jest do z to jak ale był przez jego dla tym oraz są",
    "portuguese": "o a que não uma para com os em por dos mais da do foi ele como são ao pela",
    "slovene": "in je da se na ne za so ki pa bi kot tudi bil po ali še lahko ker",
    "spanish": "el la que los de y en las una por con para del está más pero su fue como muy al",
    "swedish": "och det att är som en på för av med inte den till var har ett om men jag från",
    "turkish": "ve bir bu için de da ile çok daha gibi olarak ne ama kadar olan değil sonra var",
}
FUNCTION_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
"""By language, the words that stand in nearly every text."""
_VOTES: dict[str, list[str]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _VOTES.setdefault(_word, []).append(_language)

_SCRIPTS = {
    "greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "russian": re.compile("[\u0400-\u04ff]"),
    "malayalam": re.compile("[\u0d00-\u0d7f]"),
}
_ANY_SCRIPT = re.compile("[" + "".join(script.pattern[1:-1] for script in _SCRIPTS.values()) + "]")
_WORD = re.compile(r"[^\W\d_]+")
_ENOUGH = 3


def detect(text: str, default: str) -> str:
    """Return the Punkt language that `text` is most likely in, or `default` where too little speaks for another.

    The first few thousand characters decide.
    """
    text = text[:4000]
    words = _WORD.findall(text.lower())
    if not words:
        return default
    if _ANY_SCRIPT.search(text):
        for language, script in _SCRIPTS.items():
            if len(script.findall(text)) > len(text) // 3:
                return language
    votes: dict[str, float] = {}
    for word, count in Counter(filter(_VOTES.__contains__, words)).items():
        languages = _VOTES[word]
        for language in languages:
            votes[language] = votes.get(language, 0) + count / len(languages)
    ranked = sorted(votes, key=lambda language: (-votes[language], language != default, language))
    if not ranked or ranked[0] == default or votes[ranked[0]] < _ENOUGH:
        return default
    return ranked[0] if votes[ranked[0]] > 1.2 * votes.get(default, 0) else default


# What tells a language from those that look like it, too. None of these is guessed.
_OTHERS = {
    "afrikaans": "die nie het is en van 'n wat met vir was dat hy sy ook aan maar nog kan deur uit sal hulle",
    "arabic": "في من على إلى أن هذا هذه التي الذي كان كانت عن مع ما كل بعد قد بين لم ذلك وقد ثم",
    "belarusian": "і ў не на што з як гэта але для да ён яна яны быў было так яго калі або ад пра ці яшчэ",
    "bulgarian": "и в не на че с като това но от за той тя те е са да се ще си му го са беше или както при след",
    "catalan": "el la els les i de que en una per amb però és més són del dels ha hi aquest aquesta com seva va",
    "croatian": "je i u na se da su za od s kao što nije bi ili ali koji koja koje biti bio bila iz po samo sve",
    "galician": "o a que non unha para cos os en por dos máis da do foi el como son ao pola é as nos está",
    "greek": "και το να του η της που με την για είναι δεν από τα στο στη θα ότι των οι ο τον μια",
    "hungarian": "a az és hogy nem is egy ez van volt de meg csak mint már ha vagy még el ki azt",
    "indonesian": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada mereka",
    "latin": "et in est non ad cum ut sed qui quod ex per esse sunt a ab hoc enim aut",
    "luxembourgish": "de an den déi ass vun net mat op fir dat si ze eng een hunn och wéi gëtt",
    "macedonian": "и во не на што со како тоа но од за тој таа тие е се да ќе ги го му беше или според",
    "nynorsk": "og det er av til ikkje på med den har som vart frå kva også etter meg mykje eg ein ei dei",
    "occitan": "lo la los las e es una que dins per pas sus amb o dels èra son al",
    "persian": "و در به از که این را با است آن برای یک هم تا می بود شد خود ها",
    "romanian": "și în este cu nu pe din care să la de că o un mai a fost sunt al ale pentru",
    "russian": "и в не на что с по как это но из для от он она они был было так его когда если чтобы или только",
    "scots": "the an o tae is that wis for wi it as his are this hae no frae ye thay",
    "serbian": "је и у на се да су за од као што није би или али који која које био била из по само све",
    "slovak": "že je sú bol bola nie je ako keď alebo ale ktorý ktorá ako jeho tak však pri podľa sa aj na",
    "ukrainian": "і в не на що з як це але із для від він вона вони був було так його коли якщо або й та у до за ще",
    "urdu": "کے میں کی ہے اور سے کا کو نے پر یہ اس ہیں کہ بھی تھا",
}
# Words that languages share speak for none of them, and yet not against any.
_COMMON = {
    "czech": "a i o s z v na za do po to on se je od",
    "danish": "i at en et de for der om var over men så",
    "dutch": "de in is en op te die dat er of was om je was",
    "english": "a in on at he she but or be had an so we no me",
    "estonian": "on et ta me",
    "finnish": "on en me",
    "french": "de en un a on se ne que y à du lui ses son sa leur ou mais plus",
    "german": "in an es er sie so am um was hat aus bei als wie oder",
    "italian": "la le lo i un a da in si e o al ma se ha",
    "norwegian": "i at en et de for der om var over men så",
    "polish": "o a z za po od ale co on tak",
    "portuguese": "de e um no na se à é mas ou nos mais me está",
    "slovene": "a i o s z v to on sem sta s do od",
    "spanish": "a de no se es lo un me o le ha si mi",
    "swedish": "i de an han hon du så men vi på man om",
    "turkish": "o en her mi",
}
_OWNERS: dict[str, list[str]] = {}
for _lists in (_FUNCTION_WORDS, _COMMON, _OTHERS):
    for _language, _words in _lists.items():
        for _word in dict.fromkeys(_words.split()):
            if _language not in (_owners := _OWNERS.setdefault(_word, [])):
                _owners.append(_language)
SMALL_WORDS = frozenset(_OWNERS)
"""Words, in lower case, that many a sentence of some language has, and that say little."""

# Those that are told by their words. Of Norwegian, "no" and "nb" are the one that has a list above.
_TAGS = {
    "ar": "arabic", "be": "belarusian", "bg": "bulgarian", "ca": "catalan", "cs": "czech", "da": "danish",
    "de": "german", "el": "greek", "en": "english", "es": "spanish", "et": "estonian", "fa": "persian",
    "fi": "finnish", "fr": "french", "gl": "galician", "hu": "hungarian", "it": "italian", "nb": "norwegian",
    "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sk": "slovak", "sl": "slovene", "sv": "swedish", "tr": "turkish", "uk": "ukrainian", "ur": "urdu",
}  # fmt: skip
_HAN, _KANA = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]"), re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_ALONE = {"ko": re.compile("[\uac00-\ud7a3]"), "th": re.compile("[\u0e01-\u0e33\u0e40-\u0e46]")}
# Frequent in Chinese and in no Japanese title; those that the two ways of writing it do not share; Cantonese.
_CHINESE = frozenset("的了是在我他她们們这這那和就也不没沒")
_SIMPLIFIED = frozenset("这们来说时国对会个为发经过还没么样现问")
_TRADITIONAL = frozenset("這們來說時國對會個為發經過還沒麼樣現問")
_CANTONESE = frozenset("嘅咗唔係喺哋啲嚟冇佢")
_LONGEST = 4000  # characters; in a longer text another language could hide
_FEWEST_LETTERS = 10  # of a script that says it all
_FEWEST_WORDS, _FEWEST_OWN = 5, 3
_DENSITY = 0.2  # of a language's function words among all words


def is_surely(text: str, tag: str) -> bool:
    """Tell whether `text` is quite certainly in the language with this BCP-47 tag, all of it.

    False where it may be: in a short or a long text, one in two languages, or where a region is asked for (pt-BR).
    """
    if len(text) > _LONGEST:
        return False
    letters = [char for char in text if char.isalpha()]
    if tag in _TAGS:
        return _speaks(text, letters, _TAGS[tag])
    script = "".join(letters)
    if len(script) < _FEWEST_LETTERS:
        return False
    if tag in _ALONE:
        return _is_all(_ALONE[tag], script)
    num_kana = len(_KANA.findall(script))
    if tag == "ja":
        return num_kana >= 0.2 * len(script) and num_kana + len(_HAN.findall(script)) >= 0.95 * len(script)
    return tag in ("zh", "zh-Hans", "zh-Hant") and not num_kana and _is_all(_HAN, script) and _is_chinese(script, tag)


def _speaks(text: str, letters: list[str], language: str) -> bool:
    words = _WORD.findall(text.lower())
    owned = [owners for word in words if (owners := _OWNERS.get(word))]
    votes = sum(language in owners for owners in owned)
    shared = Counter(owner for owners in owned if language in owners for owner in owners if owner != language)
    own = votes - max(shared.values(), default=0)  # of what its nearest neighbour does not say
    against = len(owned) - votes
    alphabet = {_alphabet(char) for char in letters}
    return (
        len(alphabet) == 1
        and votes >= max(_FEWEST_WORDS, _DENSITY * len(words))
        and own >= _FEWEST_OWN
        and 10 * against <= votes
    )


def _alphabet(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _is_all(script: re.Pattern[str], letters: str) -> bool:
    return len(script.findall(letters)) >= 0.95 * len(letters)


def _is_chinese(letters: str, tag: str) -> bool:
    chars = set(letters)
    if len(chars & _CHINESE) < 3 or chars & _CANTONESE:
        return False
    simplified, traditional = len(chars & _SIMPLIFIED), len(chars & _TRADITIONAL)
    if tag == "zh":
        return True
    return (simplified if tag == "zh-Hans" else traditional) >= 2 and not (
        traditional if tag == "zh-Hans" else simplified
    )
