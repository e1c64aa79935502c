"""Kinds of files that are recognised and not read: by their names, and by how their bytes begin. Data alone."""

from __future__ import annotations

from dataclasses import dataclass

_EXPORT = "save it as text, HTML or CSV first"
_OFFICE = "save it as text or HTML first"
_SCAN = "its words must be recognised (OCR) first"
_MEDIA = "nothing in it is text"
_UNPACK = "unpack it first, and name the files in it"
_MARKUP = "its markup would be taken for prose"
_DATA = "its keys and signs would be taken for prose"


@dataclass(frozen=True, slots=True)
class Refused:
    """A kind of file that is recognised and not read.

    Args:
        kind: its name, with an article.
        remedy: what to do, or why it is not read.
    """

    kind: str
    remedy: str


PDF = Refused("a PDF document", "extract its text first (pdftotext FILE)")
_OLD_OFFICE = Refused("an old Office document (Word, Excel, PowerPoint)", _OFFICE)
ZIP = Refused("a zip archive, or a document in one (DOCX, XLSX, EPUB, ODT)", _UNPACK)
XML = Refused("an XML document", _DATA)
SVG = Refused("an SVG drawing", _DATA)
RTF = Refused("an RTF document", _OFFICE)
LATEX = Refused("a LaTeX document", _MARKUP)
POSTSCRIPT = Refused("a PostScript document", "extract its text first (ps2ascii FILE)")
_IMAGE = Refused("an image", _SCAN)
_SOUND = Refused("sound", _MEDIA)
_FILM = Refused("a film", _MEDIA)
_ARCHIVE = Refused("an archive", _UNPACK)
_COMPRESSED = Refused("a compressed file", "decompress it first")
_DATABASE = Refused("a database (SQLite)", "export its table as CSV first")
_PARQUET = Refused("a Parquet table", "export it as CSV first")
_PROGRAM = Refused("a program", _MEDIA)
_MODEL = Refused("a model's weights", "it holds no text; name a document")

BY_MAGIC: tuple[tuple[bytes, Refused], ...] = (
    (b"%PDF-", PDF),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLD_OFFICE),
    (b"{\\rtf", RTF),
    (b"%!PS", POSTSCRIPT),
    (b"\x89PNG\r\n\x1a\n", _IMAGE),
    (b"\xff\xd8\xff", _IMAGE),
    (b"GIF87a", _IMAGE),
    (b"GIF89a", _IMAGE),
    (b"II*\0", _IMAGE),
    (b"MM\0*", _IMAGE),
    (b"\0\0\x01\0", _IMAGE),
    (b"RIFF", Refused("an image, sound or film (RIFF)", _MEDIA)),
    (b"OggS", _SOUND),
    (b"fLaC", _SOUND),
    (b"ID3", _SOUND),
    (b"\x1aE\xdf\xa3", _FILM),
    (b"SQLite format 3\0", _DATABASE),
    (b"PAR1", _PARQUET),
    (b"\x7fELF", _PROGRAM),
    (b"\xca\xfe\xba\xbe", _PROGRAM),
    (b"GGUF", _MODEL),
    (b"BZh", _COMPRESSED),
    (b"\xfd7zXZ\0", _COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
    (b"Rar!\x1a\x07", _ARCHIVE),
)
"""How the bytes of a kind begin. What is text looks otherwise, but for its first few letters: see `is_binary`."""

WORDLIKE = frozenset((b"RIFF", b"OggS", b"fLaC", b"ID3", b"PAR1", b"GGUF", b"BZh", b"GIF87a", b"GIF89a"))
"""Magics that a text could begin with: they count only where bytes follow that no text has."""

BY_SUFFIX: dict[str, Refused] = {
    **dict.fromkeys((".pdf",), PDF),
    **dict.fromkeys((".doc", ".dot", ".xls", ".ppt"), _OLD_OFFICE),
    **dict.fromkeys((".docx", ".docm", ".dotx"), Refused("a Word document", _OFFICE)),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".ods"), Refused("a spreadsheet", "save its sheet as CSV first")),
    **dict.fromkeys((".pptx", ".pptm", ".odp", ".key"), Refused("a presentation", _OFFICE)),
    **dict.fromkeys((".odt", ".ott", ".pages", ".wpd"), Refused("a text document of an office suite", _OFFICE)),
    **dict.fromkeys((".epub", ".mobi", ".azw", ".azw3", ".fb2"), Refused("an electronic book", _OFFICE)),
    **dict.fromkeys((".rtf",), RTF),
    **dict.fromkeys((".ps", ".eps"), POSTSCRIPT),
    **dict.fromkeys((".xlf", ".xliff", ".tmx", ".sdlxliff"), Refused("a file of translations (XLIFF, TMX)", _DATA)),
    **dict.fromkeys((".mo", ".gmo", ".qm"), Refused("a compiled catalogue", "take the .po or .ts file it was made of")),
    **dict.fromkeys((".xml", ".rss", ".atom", ".xsd", ".xsl", ".plist", ".resx"), XML),
    **dict.fromkeys((".svg",), SVG),
    **dict.fromkeys((".tex", ".latex", ".sty", ".cls", ".bib"), LATEX),
    **dict.fromkeys((".rst",), Refused("a reStructuredText document", _MARKUP)),
    **dict.fromkeys((".adoc", ".asciidoc"), Refused("an AsciiDoc document", _MARKUP)),
    **dict.fromkeys((".org",), Refused("an Org document", _MARKUP)),
    **dict.fromkeys((".ipynb",), Refused("a notebook", "convert it to Markdown first (jupyter nbconvert)")),
    **dict.fromkeys((".yaml", ".yml", ".toml", ".ini"), Refused("a file of settings", _DATA)),
    **dict.fromkeys((".parquet", ".feather", ".arrow"), _PARQUET),
    **dict.fromkeys((".sqlite", ".sqlite3", ".db"), _DATABASE),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar", ".jar"), _ARCHIVE),
    **dict.fromkeys((".bz2", ".xz", ".lz4", ".br"), _COMPRESSED),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".heic", ".avif"), _IMAGE),
    **dict.fromkeys((".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a"), _SOUND),
    **dict.fromkeys((".mp4", ".mkv", ".avi", ".mov", ".webm"), _FILM),
    **dict.fromkeys((".ass", ".ssa", ".sub", ".ttml", ".dfxp"), Refused("subtitles of another kind than SRT and VTT",
                                                                       "convert them to SRT first (ffmpeg)")),
    **dict.fromkeys((".gguf", ".safetensors"), _MODEL),
}  # fmt: skip
"""Kinds by how the names of their files end."""
