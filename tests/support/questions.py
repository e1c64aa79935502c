"""Questions about texts that stand nowhere."""

from __future__ import annotations

from llmpar.documents.document import text_document, text_segment
from llmpar.store.answer import StoredAnswer
from llmpar.store.job import NoStore
from llmpar.tasks.question import Conversation, Question
from llmpar.tasks.task import Task

DOCUMENT = text_document("test")


TASK = Task("test", "{text}", growth=1, margin=8)


class Kept(NoStore):
    """A memory that keeps what it is given, for one run."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[bytes, list[StoredAnswer]] = {}
        self.texts: list[str] = []

    def find(self, key: bytes) -> list[StoredAnswer]:
        return self.answers.get(key, [])

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        self.answers.setdefault(key, []).append(answer)
        self.texts.append(text)


def question(text: str, task: Task = TASK, conversation: Conversation | None = None) -> Question:
    return Question(text_segment(DOCUMENT, text), task, conversation=conversation)
