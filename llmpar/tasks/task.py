"""A task: what is asked of each segment, and how much room its answer gets. Knows no token but their number."""

from __future__ import annotations

from dataclasses import dataclass

from llmpar.documents.document import Unit
from llmpar.errors import UsageError

PLACEHOLDER = "{text}"


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of each segment.

    Args:
        name: for people.
        prompt: the user's message; `{text}` in it stands for the segment, which otherwise follows it.
        system: the system prompt, None for the model's own.
        unit: what a segment is, unless the user says otherwise.
        growth: tokens of room for an answer for each token of the segment.
        margin: tokens of room on top.
        min_text_tokens: shorter segments are left as they are.
    """

    name: str
    prompt: str
    system: str | None = None
    unit: Unit = "sentence"
    growth: float = 1.0
    margin: int = 256
    min_text_tokens: int = 0

    def render(self, text: str) -> str:
        """Return the user's message about `text`, which is inserted and never interpreted."""
        if PLACEHOLDER in self.prompt:
            return self.prompt.replace(PLACEHOLDER, text)
        return f"{self.prompt}\n\n{text}"

    def max_new_tokens(self, num_text_tokens: int) -> int:
        """Return the room for the answer to a segment of so many tokens."""
        return int(self.growth * num_text_tokens) + self.margin


def run(prompt: str, system: str | None = None) -> Task:
    """Return the task that asks `prompt` of each segment.

    Raises:
        UsageError: the prompt is blank.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty; say what to do with the text")
    return Task("run", prompt, system)


def translate(to: str) -> Task:
    """Return the task that translates each segment into the language `to`."""
    if not to.strip() or "\n" in to or PLACEHOLDER in to:
        raise UsageError(f"--to {to!r}: name a language, for example --to French")
    return Task(
        "translate",
        f"Translate the following text into {to}. Answer with the translation only.\n\n{PLACEHOLDER}",
        f"You are a translator. You translate into {to}, faithfully and completely.",
        growth=3.0,
        margin=48,
    )


def summarize() -> Task:
    """Return the task that summarizes each segment."""
    return Task(
        "summarize",
        f"Summarize the following text in one or two sentences. Answer with the summary only.\n\n{PLACEHOLDER}",
        "You write short, faithful summaries.",
        unit="paragraph",
        growth=0.5,
        margin=96,
        min_text_tokens=40,  # a heading, a single sentence: as short as its summary
    )
