"""Guess the language of a passage, only as well as choosing a Punkt model needs. Knows no sentence."""

from __future__ import annotations

import re

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
_VOTES: dict[str, list[str]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _VOTES.setdefault(_word, []).append(_language)

_SCRIPTS = {
    "greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "russian": re.compile("[\u0400-\u04ff]"),
    "malayalam": re.compile("[\u0d00-\u0d7f]"),
}
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
    for language, script in _SCRIPTS.items():
        if len(script.findall(text)) > len(text) // 3:
            return language
    votes: dict[str, float] = {}
    for word in words:
        languages = _VOTES.get(word, ())
        for language in languages:
            votes[language] = votes.get(language, 0) + 1 / len(languages)
    ranked = sorted(votes, key=lambda language: (-votes[language], language != default, language))
    if not ranked or ranked[0] == default or votes[ranked[0]] < _ENOUGH:
        return default
    return ranked[0] if votes[ranked[0]] > 1.2 * votes.get(default, 0) else default
