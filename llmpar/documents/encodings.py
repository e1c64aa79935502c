"""Which encoding a text is in, as the user says, or by a guess; and which one it is written in."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace

from llmpar.documents.compression import CompressedEncoding
from llmpar.documents.document import Encoding
from llmpar.documents.source import Source
from llmpar.errors import InputError, UsageError, setting

AUTO = "auto"
_GUESSED_BY = 1 << 20  # bytes that a guess is made by
_ADVISED_BY = 1 << 14  # bytes that advice is made by
# The encodings that files are in which are not in UTF-8, the likelier ones first. Rare ones are not guessed: a short
# text of German would be taken for one of Iceland.
_COMMON = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp874", "utf_16", "utf_32"),
]
# These begin what they write with a mark, each time that they write.
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}


@dataclass(frozen=True, slots=True)
class Encodings:
    """What bytes mean, where no byte order mark says it.

    Args:
        input: the name of an encoding, or "auto" for UTF-8 where it can be, else a guess.
        output: the name of the one that texts are written in; None for the input's.

    Raises:
        UsageError: there is no encoding of such a name.
    """

    input: str = "utf-8"
    output: str | None = None

    def __post_init__(self) -> None:
        for field, name in (("encoding", self.input), ("output_encoding", self.output)):
            if name is not None and not (field == "encoding" and name == AUTO):
                _named(field, name)

    def input_of(self, source: Source) -> str:
        """Return the name of the encoding that an input is in.

        Raises:
            InputError: nobody can tell.
            InputUnreadable: reading failed.
        """
        if self.input != AUTO:
            return _named("encoding", self.input)
        head = source.look(_GUESSED_BY)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head, final=source.ended)
        except UnicodeDecodeError:
            return _guess(head, source)
        return "utf-8"

    def output_of(self, encoding: Encoding, source: Source) -> Encoding:
        """Return how texts are written that were read in an encoding; of a compressed input, compressed."""
        made = encoding
        if self.output is not None and (name := _named("output_encoding", self.output)) != encoding.name:
            passes = encoding.errors != "strict" and name.startswith(("utf-16", "utf-32"))
            errors = "surrogatepass" if passes else encoding.errors
            made = replace(encoding, name=name, bom=b"", errors=errors)
        if source.compression is None:
            return made
        return CompressedEncoding(made.name, b"", made.errors, made.bom, source.compression)


def _named(field: str, name: str) -> str:
    """Return the name by which Python knows an encoding."""
    try:
        found = codecs.lookup(name).name
        "".encode(found)  # some codecs are none of texts
    except LookupError as error:
        raise UsageError(
            f"{setting(field, name)}: there is no such encoding; write utf-8, latin-1, cp1252, …"
        ) from error
    return _WITHOUT_MARK.get(found, found)


def _guess(head: bytes, source: Source) -> str:
    best = _best(head)
    if best is None:
        found = f"NUL at byte {head.index(0)}; this is not text, or " if b"\0" in head else ""
        raise InputError(
            f"{source.shown}: {found}nobody can tell its encoding; name it with {setting('encoding', 'NAME')}"
        )
    return _named("encoding", best)


def _best(head: bytes) -> str | None:
    from charset_normalizer import from_bytes

    matches = from_bytes(head, cp_isolation=_COMMON)
    best = matches.best()
    if best is None:
        return None
    equals = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    names = {name for match in equals for name in match.could_be_from_charset}
    return next((name for name in _COMMON if name in names), best.encoding)


def _is_text(head: bytes, name: str) -> bool:
    text = head[: len(head) // 2 * 2].decode(name, "replace")
    num_odd = sum(not (char.isprintable() or char.isspace()) or char == "\ufffd" for char in text)
    return num_odd * 20 < len(text)


def looks_like(data: bytes) -> str | None:
    """Return the name of an encoding that bytes may be text in, which are none in UTF-8; None if nobody can tell."""
    head = data[:_ADVISED_BY]
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        # Most texts have many characters of Latin, or their spaces and newlines; other files have zeros in both places.
        if zeros.count(0) * 8 > len(zeros) and head.count(0) == zeros.count(0) and _is_text(head, name):
            return name
    text = head.decode("utf-8", "replace")
    num_damaged = text.count("\ufffd")
    num_sound = sum(char > "\x7f" for char in text) - num_damaged
    if b"\0" in head or num_sound > num_damaged:  # no text, or UTF-8 that is damaged in places
        return None
    best = _best(head)
    return best.replace("_", "-") if best else None


UTF_8 = Encodings()
"""What bytes mean where nobody says anything."""
