"""Files of requests → questions, and their results → the lines that answer them. Knows no terminal and no option."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from llmpar.answering.flow import Part
from llmpar.batches.failure import BadRequest, Failure, MalformedLine
from llmpar.batches.request import CHAT, BatchRequest, read_request, too_long
from llmpar.batches.result import BatchAnswer, error_line, result_line
from llmpar.documents.document import INLINE, Block, Document, Encoding, Result, Segment
from llmpar.documents.formats import jsonl
from llmpar.documents.layout import NEWLINE
from llmpar.errors import UsageError
from llmpar.models.grammar import schema_rule
from llmpar.tasks.question import Conversation, Question, Sampling
from llmpar.tasks.task import Form, Task
from llmpar.visible import one_line

_ROOM = 2048  # tokens of an answer whose request names no limit, and once as many again
# What is asked stands in the requests. Their answers are given as they come: no check is for us to choose.
_TASK = Task("batch", "", growth=0, margin=_ROOM, checks=frozenset())
_NEXT_SEED = 7_919  # between a request's several answers

_UNTOLD = "logprobs is not supported by what answers here, which tells no log-probabilities; leave it out"
_LONGEST_SHOWN = 100  # characters of a custom_id

Entry = BatchRequest | Failure


@dataclass(slots=True)
class Requests:
    """The requests of a run's files: questions for whoever asks, and in the end lines (a `documents.merger.Merger`).

    Args:
        model: its name in the results.
        created: when the run began, in seconds since 1970.
        take_error: takes the line of a request that failed, in OpenAI's form; None puts it among the results, in
            vLLM's.
        failed: is told of each request that cannot be asked at all.
        thinks: whether models are told to think before they answer.
    """

    model: str
    created: int
    take_error: Callable[[str], None] | None = None
    failed: Callable[[str], None] = lambda _: None
    thinks: bool = False
    names: set[str] = field(default_factory=set)
    """The models that requests name."""
    num_repeated: int = 0
    """Requests whose custom_id another one before them has."""
    first_repeated: str = ""
    """The first such custom_id, and where it stands again."""
    _known: set[int] = field(default_factory=set)  # hashes of each custom_id, as they may be many
    _entries: dict[tuple[int, int], list[Entry]] = field(default_factory=dict)  # by document and place of the block

    def parts(self, blocks: Iterable[Block]) -> Iterator[Part]:
        """Yield what is asked in a document, block by block.

        Raises:
            MalformedLine: a line is no request at all.
        """
        for block in blocks:
            questions: list[Question] = []
            entries = self._entries[block.document.index, block.offset] = []
            if block.part == "beginning":
                entries.append(
                    too_long(block.text, f"{one_line(block.document.name)}:{1 + block.line}: {jsonl.too_long(block)}")
                )
            for number, start, line in _lines("" if block.part else block.text):
                try:
                    request = read_request(line, thinks=self.thinks)
                    questions += _questions(request, block, start, len(questions))
                    entries.append(request)
                    self._note_repeated(request.custom_id, block, number)
                    if request.model:
                        self.names.add(request.model)
                except BadRequest as error:
                    entries.append(error.failure)
                except MalformedLine as error:
                    place = f"{one_line(block.document.name)}:{1 + block.line + number}"
                    raise MalformedLine(f"{place}: {error}") from error
            yield Part(block, questions)

    def _note_repeated(self, custom_id: str, block: Block, number: int) -> None:
        known = hash(custom_id)
        if known not in self._known:
            self._known.add(known)
            return
        self.num_repeated += 1
        if self.num_repeated == 1:
            place = f"{one_line(block.document.name)}:{1 + block.line + number}"
            self.first_repeated = f"{one_line(custom_id)[:_LONGEST_SHOWN]} ({place})"

    def num_requests(self, block: Block) -> int:
        """Return how many of a block's requests can be asked; its results are no longer awaited."""
        entries = self._entries.pop((block.document.index, block.offset))
        return sum(isinstance(entry, BatchRequest) for entry in entries)

    def encoding(self, document: Document) -> Encoding:  # noqa: ARG002 (JSON is UTF-8)
        """Return UTF-8."""
        return Encoding()

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:  # noqa: ARG002
        """Yield the lines of a block's requests, in order."""
        for entry in self._entries.pop((block.document.index, block.offset)):
            if isinstance(entry, BatchRequest):
                answers = [next(results) for _ in range(entry.n)]
                fault = next((answer for answer in answers if answer.error is not None), None)
                if fault is None and entry.num_others is not None and not all(answer.tokens for answer in answers):
                    fault = replace(answers[0], error=_UNTOLD, worker=None)
                if fault is None:
                    yield self._answered(entry, answers)
                    continue
                entry = _failure(entry, fault)
            else:
                self.failed(f"{entry.custom_id}: {entry.message}" if entry.custom_id else entry.message)
            line = error_line(entry, openai=self.take_error is not None)
            if self.take_error:
                self.take_error(line)
            else:
                yield line

    def close(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def _answered(self, request: BatchRequest, results: list[Result]) -> str:
        answers = [
            BatchAnswer(
                result.answer,
                "length" if result.finish_reason == "length" else "stop",
                result.num_output_tokens,
                reasoning=result.reasoning,
                num_reasoning_tokens=result.num_reasoning_tokens,
                tokens=json.loads(result.tokens) if result.tokens else None,
            )
            for result in results
        ]
        num_prompt_tokens = results[0].num_prompt_tokens
        return result_line(
            request, answers, model=self.model, num_prompt_tokens=num_prompt_tokens, created=self.created
        )


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the lines that are not blank: number, place and text of each."""
    start = 0
    for number, line in enumerate(NEWLINE.split(text)):
        if line.strip():
            yield number, start, line
        start += len(line) + 1


def _questions(request: BatchRequest, block: Block, start: int, index: int) -> Iterator[Question]:
    """Yield a question for each answer that a request wants.

    Raises:
        BadRequest: its schema cannot be used.
    """
    form = None
    if request.choices:
        form = Form(choices=request.choices)
    elif request.schema is not None:
        try:
            schema_rule(request.schema)
        except UsageError as error:
            failure = Failure(request.custom_id, request.digest, str(error), "invalid_json_schema", "response_format")
            raise BadRequest(failure) from error
        form = Form(schema=json.dumps(request.schema))
    is_chat = request.url == CHAT
    messages = request.messages if is_chat else (("user", request.prompt),)
    text = messages[-1][1]
    for number in range(request.n):
        sampling = Sampling(
            request.max_new_tokens,
            request.temperature,
            request.top_p,
            (request.seed or 0) + number * _NEXT_SEED,
            max_repeats=0,  # vLLM stops no answer that goes round in a loop, unless a request limits its length
            stop=request.stop,
        )
        segment = Segment(block, index + number, start, start, text, INLINE)
        conversation = Conversation(
            tuple(messages), sampling, is_beginning=not is_chat, form=form, num_others=request.num_others
        )
        yield Question(segment, _TASK, conversation=conversation)


def _failure(request: BatchRequest, result: Result) -> Failure:
    """Return why a request has no answer. What no worker took up is the request's own fault."""
    assert result.error is not None
    if result.error == _UNTOLD:
        return Failure(request.custom_id, request.digest, result.error, "unsupported_parameter", "logprobs")
    if result.worker is None:
        return Failure(request.custom_id, request.digest, result.error, "invalid_prompt")
    return Failure(request.custom_id, request.digest, result.error, "server_error", status=500)
