"""The models made for translation that tests in this folder share."""

from support.translators import multilingual, nllb  # noqa: F401 (fixtures)
