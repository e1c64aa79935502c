"""The job: sentences of a story behind a common instruction, as token ids that every engine is given."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

INSTRUCTION = "Rewrite the sentence in simpler words. Answer with the sentence only."
STORY = Path(__file__).parents[3] / "sample_data" / "story.txt"
_NUM_WARM_UP = 8


@dataclass(frozen=True)
class Job:
    """What is asked: `prompts` count, `warm_up` are others like them, asked before."""

    model: Path
    prompts: list[list[int]]
    warm_up: list[list[int]]
    stop_ids: list[int]
    max_new_tokens: int

    @property
    def prefix_ids(self) -> list[int]:
        """What all prompts begin with; of one alone, nothing is common."""
        if len(self.prompts) < 2:
            return []
        return [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*self.prompts, strict=False))]

    def subset(self, num_prompts: int) -> list[int]:
        """Return the indexes of so many prompts, spread evenly over the story."""
        count = min(num_prompts, len(self.prompts))
        return [index * len(self.prompts) // count for index in range(count)]

    def __str__(self) -> str:
        tokens = sum(map(len, self.prompts)) / len(self.prompts) - len(self.prefix_ids)
        return (
            f"{len(self.prompts)} sentences of {STORY.name}, {tokens:.0f} tokens each on average, behind a common "
            f"prefix of {len(self.prefix_ids)}; greedy, at most {self.max_new_tokens} new tokens; "
            f"{self.model.name}"
        )


def make_job(model: str, num_sentences: int, max_new_tokens: int) -> Job:
    """Split the story, leave its title out, and render and tokenize prompts as llmpar does."""
    from llmpar.models.configuration import stop_ids
    from llmpar.models.registry import resolve
    from llmpar.models.tokenizer import ChatTokenizer

    path = Path(resolve(model).path)
    tokenizer = ChatTokenizer(path)
    prompts = [tokenizer.encode(f"{INSTRUCTION}\n\n{text}") for text in sentences()[1:]]
    return Job(
        path,
        prompts[:num_sentences],
        prompts[-_NUM_WARM_UP:],
        sorted(stop_ids(path) | tokenizer.stop_ids),
        max_new_tokens,
    )


def sentences() -> list[str]:
    """Return the sentences of the story, its title first."""
    command = [sys.executable, "-m", "llmpar", "split", "--unit", "sentence", "--format", "jsonl", str(STORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]
