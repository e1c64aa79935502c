"""Languages by name or code → the tag for machines and the name for a prompt. Knows no text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches

from llmpar.errors import UsageError
from llmpar.visible import one_line

_LONGEST = 80  # characters of a name; whatever is longer is none
_WELL_KNOWN = 10  # languages that have a name for one worth suggesting
_QUALIFIED = re.compile(r"(.+?) ?[(（](.+)[)）]")
_CODE = re.compile(r"[a-z]{2,3}(?:-[A-Z][A-Za-z]+)?")
# How langcodes names what is no language: what is private or unassigned, families of languages, no language at all.
_NO_LANGUAGE = re.compile(r"Unknown|.*\blanguages\b|No linguistic content")


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its normalized BCP-47 `tag`, and its English `name`, as a prompt says it."""

    tag: str
    name: str


def find_language(name: str, role: str = "language") -> Language:
    """Return the language that has a name (English, its own, any other's) or code (ISO 639, BCP-47), in any case.

    Args:
        name: "French", "français", "fr", "fra", "Brazilian Portuguese", "Portuguese (Brazil)", "pt-BR".
        role: what the language is, for the message.

    Raises:
        UsageError: there is no such language; the message suggests the nearest.
    """
    wanted = " ".join(unicodedata.normalize("NFC", name[: _LONGEST + 1]).split())
    tag = (_tag_of_code(wanted) or _tag_of_name(wanted)) if len(wanted) <= _LONGEST else None
    if tag is not None and (found := _named(tag)) is not None:
        return found
    near = _suggestions(wanted)
    remedy = f"did you mean {' or '.join(near)}?" if near else "for example French, pt-BR or 中文"
    raise UsageError(f"{role} {one_line(wanted)!r}: no language; {remedy}")


def _tag_of_code(code: str) -> str | None:
    import langcodes
    from langcodes.tag_parser import LanguageTagError

    try:
        language = langcodes.Language.get(code)
    except LanguageTagError:
        return None
    # What these add is no part of a language, or known to nobody else.
    return language.to_tag() if language.is_valid() and not (language.private or language.extensions) else None


def _tag_of_name(name: str) -> str | None:
    # Some languages have a name of one letter, and nobody means them; a NUL confuses the index of names.
    if len(name) == 1 or "\0" in name:
        return None
    if tag := _exact("language", name):
        return tag
    qualified = _QUALIFIED.fullmatch(name)
    if not qualified or not (tag := _exact("language", qualified[1])):
        return None
    subtag = _exact("script", qualified[2]) or _exact("territory", qualified[2])
    return f"{tag}-{subtag}" if subtag and "-" not in tag else None


def _exact(category: str, name: str) -> str | None:
    """Return the code that a name has in some language; langcodes itself takes "Germanium" for German."""
    from language_data import names

    code: str | None = names.name_to_code(category, name)
    return code if names.normalize_name(name) in names.TRIES[f"und/name_to_{category}"] else None


def _named(tag: str) -> Language | None:
    import langcodes
    from language_data.names import code_to_names

    language = langcodes.Language.get(tag, normalize=False)
    if language.territory and not language.script:
        script = language.maximize().script
        if script != langcodes.Language.make(language=language.language).maximize().script:
            # A region can decide how a language is written, as Taiwan does.
            language = language.update_dict({"script": script})
    name = code_to_names(tag).get("en") or language.display_name()
    return None if _NO_LANGUAGE.match(name) or "Unknown" in name else Language(tag, name)


def _suggestions(name: str) -> list[str]:
    from language_data.name_data import CODE_TO_NAMES

    known = {
        spoken.casefold(): spoken
        for code, names in CODE_TO_NAMES.items()
        if len(names) >= _WELL_KNOWN and _CODE.fullmatch(code)
        for spoken in (names.get(code), names.get("en"))
        if spoken and not _NO_LANGUAGE.match(spoken)
    }
    return [known[near] for near in get_close_matches(name.casefold(), known, n=3, cutoff=0.7)]
