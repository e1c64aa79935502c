"""Text → sentences. Knows languages and scripts, and no format."""

from llmpar.documents.sentences.languages import LANGUAGES, find_language
from llmpar.documents.sentences.punkt import load_punkt
from llmpar.documents.sentences.spans import sentence_spans

__all__ = ["LANGUAGES", "find_language", "load_punkt", "sentence_spans"]
