"""Text → sentences. Knows languages and scripts, and no format."""

from llmpar.documents.sentences.languages import LANGUAGES, find_language
from llmpar.documents.sentences.spans import sentence_spans
from llmpar.documents.sentences.tables import load_punkt

__all__ = ["LANGUAGES", "find_language", "load_punkt", "sentence_spans"]
