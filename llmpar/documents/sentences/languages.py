"""The languages that sentences are found in by Punkt's tables, and how a user may name them."""

from __future__ import annotations

from llmpar.errors import UsageError

LANGUAGES = {
    "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "italian": "it", "malayalam": "ml", "norwegian": "no", "polish": "pl",
    "portuguese": "pt", "russian": "ru", "slovene": "sl", "spanish": "es", "swedish": "sv", "turkish": "tr",
}  # fmt: skip
"""The languages that Punkt has a model for, with their ISO 639-1 codes."""


def find_language(name: str) -> str:
    """Return the name of Punkt's model for a language's name or code, in any case; "auto" is always known.

    Raises:
        UsageError: Punkt has no such model.
    """
    wanted = name.casefold()
    for language, code in LANGUAGES.items():
        if wanted in (language, code):
            return language
    if wanted == "auto":
        return wanted
    raise UsageError(f"unknown language {name!r}; Punkt knows: {', '.join(LANGUAGES)} (or auto)")
