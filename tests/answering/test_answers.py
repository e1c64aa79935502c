"""Questions to answers with fake engines: what does not fit is split, what stops is cut, conversations are obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes import FakeRunner
from support.questions import Kept, question

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend
from llmpar.answering.flow import Flow, Part
from llmpar.answering.local import Codec, LocalBackend
from llmpar.documents.document import Result
from llmpar.documents.pieces import halve
from llmpar.engine.constraint import Constraint
from llmpar.engine.engine import Engine
from llmpar.engine.request import Sequence
from llmpar.errors import ModelUnavailable
from llmpar.reporting.report import Report
from llmpar.store.answer import StoredAnswer
from llmpar.store.job import NoStore
from llmpar.tasks.question import Conversation, Prompt, Question, Sampling
from llmpar.tasks.task import Form, Task


class Repeating(FakeRunner):
    """Answers with the text of the prompt in capitals; goes on with an earlier answer."""

    def _step(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            prompt, num_answered = bytes(sequence.request.prompt_ids), sequence.request.num_answered
            text = prompt[: len(prompt) - num_answered].upper()
            done = num_answered + len(sequence.output_ids)
            sequence.append(text[done] if done < len(text) else -1, frozenset({-1}))


def ask(
    questions: list[Question],
    context: int = 100_000,
    sampling: Sampling = Sampling(max_repeats=0),  # noqa: B008
    policy: Policy = Policy(retries=0),  # noqa: B008
    memory: NoStore | None = None,
    encode: Callable[[Prompt], bytes] = lambda prompt: prompt.messages[-1][1].encode(),
    constrain: Callable[[Form], Callable[[], Constraint]] | None = None,
    num_workers: int = 2,
) -> tuple[list[Result], Report]:
    report = Report()
    kept = memory or NoStore()

    def open_backend(_: Question) -> Backend:
        engine = Engine([Repeating(4, delay=0.0002, seed=i) for i in range(num_workers)], context)
        return LocalBackend(engine, Codec(encode, lambda ids: bytes(ids).decode(), len, constrain))

    flow = Flow(Answers(sampling, policy, lambda task: (task, kept), open_backend, report), report)

    def parts() -> Iterator[Part]:
        for one in questions:
            yield Part(one.segment.block, [one])

    results = [result for _, found in flow.answered(parts()) for result in found]
    flow.close()
    return results, report


class TestHalves:
    @given(st.text(max_size=80))
    def test_nothing_is_lost(self, text: str) -> None:
        halves = halve(text)
        assert (halves is None) == (len(text) < 2)
        if halves:
            first, between, second = halves
            assert first + between + second == text
            assert first
            assert second
            assert not between.strip()

    @pytest.mark.parametrize(
        ("text", "first"),
        [
            ("One. Two three.\n\nFour five six. Seven.", "One. Two three."),
            ("One two three\nfour five. Six", "One two three"),
            ("One two, three four five. Six seven", "One two, three four five."),
            ('He said "no." Then he went, and all was well', 'He said "no."'),
            ("one two, three four five six", "one two,"),
            ("one two three", "one two"),
            ("我们去吧。你来吗？他不来的", "我们去吧。"),
            ("abcdef", "abc"),
        ],
    )
    def test_the_best_place_is_taken(self, text: str, first: str) -> None:
        halves = halve(text)
        assert halves is not None
        assert halves[0] == first

    def test_a_long_text_takes_linear_time(self) -> None:
        assert halve("\n" * 2_000_000 + "a") is not None
        assert halve(". " * 1_000_000) is not None


class TestOverflow:
    LONG = "One two three. Four five six seven. Eight nine ten, eleven twelve. Thirteen.\n\nFourteen fifteen."

    def test_what_does_not_fit_is_split_and_joined(self) -> None:
        (result,), report = ask([question(self.LONG)], context=60)
        assert (result.error, result.answer) == (None, self.LONG.upper())
        assert report.num_segments_done == 1
        assert report.num_text_tokens_read == report.num_text_tokens_done

    @settings(max_examples=30, deadline=None)
    @given(st.text("ab. \n", min_size=1, max_size=300).filter(str.strip), st.integers(44, 400), st.integers(1, 3))
    def test_any_context_gives_all_of_it(self, text: str, context: int, workers: int) -> None:
        text = text.strip()
        (result,), _ = ask([question(text)], context=context, num_workers=workers)
        assert result.error is None
        assert "".join(result.answer.split()) == "".join(text.upper().split())

    def test_it_fails_if_that_is_wanted(self) -> None:
        (result,), _ = ask([question(self.LONG)], context=60, policy=Policy(overflow="error"))
        assert "of the 60 tokens the model can read" in (result.error or "")

    def test_an_answer_without_room_is_asked_for_by_halves(self) -> None:
        # The prompt fits, but there is no room for an answer of its length.
        (result,), report = ask([question(self.LONG)], context=150)
        assert (result.error, result.answer) == (None, self.LONG.upper())
        assert report.num_text_tokens_read == report.num_text_tokens_done

    def test_the_whole_is_kept_beside_its_halves(self) -> None:
        memory = Kept()
        ask([question(self.LONG)], context=60, memory=memory)
        assert memory.texts[-1] == self.LONG
        assert len(memory.texts) > 2
        (result,), _ = ask([question(self.LONG)], context=1, memory=memory)
        assert (result.cached, result.answer) == (True, self.LONG.upper())

    def test_equal_ones_are_split_one_time(self) -> None:
        memory = Kept()
        results, report = ask([question(self.LONG)] * 5, context=60, memory=memory)
        assert {result.answer for result in results} == {self.LONG.upper()}
        assert len(set(memory.texts)) == len(memory.texts)
        assert report.num_reused == 4

    def test_a_half_that_fails_fails_the_whole(self) -> None:
        def encode(prompt: Prompt) -> bytes:
            text = prompt.messages[-1][1]
            return text.encode() * (100 if "E" in text else 1)

        (result,), report = ask([question(self.LONG)], context=60, encode=encode)
        assert "the model can read" in (result.error or "")
        assert report.num_failed == report.num_segments_done == 1

    def test_a_task_may_want_short_texts(self) -> None:
        task = Task("test", "{text}", growth=1, margin=8, max_text_tokens=30)
        memory = Kept()
        (result,), _ = ask([question(self.LONG, task)], memory=memory)
        assert result.answer == self.LONG.upper()
        assert max(map(len, memory.texts[:-1])) <= 60


class TestConversations:
    def test_it_is_asked_as_it_is(self) -> None:
        talk = Conversation((("system", "s"), ("user", "a b")), Sampling(max_new_tokens=2))
        (result,), report = ask([question("a b", conversation=talk)], policy=Policy(retries=3))
        assert (result.answer, result.finish_reason, result.cut, result.error) == ("A ", "length", True, None)
        assert report.num_cut == 1

    @pytest.mark.parametrize(("stop", "answer"), [((" C",), "A B"), (("X", "B", " "), "A"), (("D",), "A B C ")])
    def test_a_stop_string_ends_the_answer_before_it(self, stop: tuple[str, ...], answer: str) -> None:
        talk = Conversation((("user", "a b c d e f"),), Sampling(stop=stop))
        (result,), _ = ask([question("a b c d e f", conversation=talk)])
        assert (result.answer, result.finish_reason) == (answer, "stop")
        assert result.num_output_tokens < 11

    def test_a_stop_string_may_lie_where_an_answer_was_extended(self) -> None:
        # 8 tokens of room at first, and the string stands across the seam.
        task = Task("test", "{text}", growth=0, margin=8)
        talk = Conversation((("user", "abcdefghij"),), Sampling(stop=("HI",)))
        (result,), _ = ask([question("abcdefghij", task, talk)])
        assert result.answer == "ABCDEFG"

    def test_one_that_is_refused_fails_alone(self) -> None:
        def encode(prompt: Prompt) -> bytes:
            if prompt.text == "bad":
                raise ModelUnavailable("its chat template fails")
            return prompt.text.encode()

        talks = [Conversation((("user", text),), Sampling()) for text in ("good", "bad")]
        questions = [question(talk.messages[0][1], conversation=talk) for talk in talks]
        good, bad = ask(questions, encode=encode)[0]
        assert (good.answer, bad.error) == ("GOOD", "its chat template fails")

    def test_what_differs_in_anything_is_asked_apart(self) -> None:
        memory = Kept()
        same = [("user", "a")]
        talks = [
            Conversation(tuple(same), Sampling()),
            Conversation(tuple(same), Sampling(temperature=0.5)),
            Conversation(tuple(same), Sampling(), is_beginning=True),
            Conversation((("system", "s"), *same), Sampling()),
            Conversation(tuple(same), Sampling(seed=2)),
        ]
        ask([question("a", conversation=talk) for talk in [*talks, *talks]], memory=memory)
        assert len(memory.answers) == len(talks)


class TestForms:
    def test_choices_have_room_for_the_longest(self) -> None:
        limits: list[int] = []

        class Looking(Repeating):
            def prefill(self, sequences: list[Sequence]) -> None:
                limits.extend(sequence.request.params.max_new_tokens for sequence in sequences)
                assert all(sequence.request.constraint is not None for sequence in sequences)
                super().prefill(sequences)

        task = Task("test", "{text}", form=Form(choices=("yes", "perhaps")))
        report = Report()
        codec = Codec(
            lambda prompt: prompt.text.encode(),
            lambda ids: bytes(ids).decode(),
            len,
            lambda _: object,  # type: ignore[arg-type, return-value]
        )
        backend = LocalBackend(Engine([Looking(2)], 1000), codec)
        answers = Answers(
            Sampling(max_new_tokens=1, max_repeats=0),
            Policy(retries=0),
            lambda task: (task, NoStore()),
            lambda _: backend,
            report,
        )
        flow = Flow(answers, report)
        one = question("perhaps", task)
        flow.result(flow.submit(one))
        flow.close()
        assert limits == [len("perhaps") + 2]

    def test_one_that_is_cut_is_no_answer(self) -> None:
        task = Task("test", "{text}", growth=0, margin=4, form=Form(schema="{}"))
        (result,), _ = ask(
            [question("a long text", task)],
            sampling=Sampling(max_new_tokens=5, max_repeats=0),
            constrain=lambda _: object,  # type: ignore[arg-type, return-value]
        )
        assert "did not end" in (result.error or "")


def test_fields_decide_answers_too() -> None:
    memory = Kept()
    task = Task("test", "{before}|{text}").with_values(before="")
    plain = question("a", task)
    shown = Question(plain.segment, task, (("before", "x"),))
    first, second, third = ask([plain, shown, plain], memory=memory)[0]
    assert (first.answer, second.answer, third.answer) == ("|A", "X|A", "|A")
    assert first.key == third.key != second.key


def test_blank_texts_are_left() -> None:
    (result,), report = ask([question(" \n")])
    assert (result.answer, result.finish_reason, report.num_output_tokens) == (" \n", "kept", 0)


class TestTogether:
    """Questions that are submitted together are answered as they are one by one."""

    TEXTS = ("one", "two", " ", "known", "two", "three", "one")

    def answers(self, known: Kept, told: list[tuple[str, ...]]) -> Answers:
        class Told(LocalBackend):
            def foresee(self, prompts: SequenceOf[Prompt], texts: SequenceOf[str]) -> None:
                assert [prompt.text for prompt in prompts] == list(texts)
                told.append(tuple(texts))

        def open_backend(_: Question) -> Backend:
            engine = Engine([Repeating(4)], 1000)
            return Told(engine, Codec(lambda prompt: prompt.text.encode(), lambda ids: bytes(ids).decode(), len))

        return Answers(Sampling(max_repeats=0), Policy(retries=0), lambda task: (task, known), open_backend, Report())

    def test_the_memory_and_the_tokenizer_are_told_of_all_of_them_at_once(self) -> None:
        sought: list[int] = []

        class Sought(Kept):
            def foresee(self, keys: SequenceOf[bytes]) -> None:
                sought.append(len(keys))

        known, told = Sought(), list[tuple[str, ...]]()
        known.add(known.key("known"), "known", StoredAnswer(0, "KEPT", "stop", 1, 1))
        answers = self.answers(known, told)
        pending = answers.submit_all([question(text) for text in self.TEXTS])
        while answers.running:
            answers.collect(1)
        assert sought == [len(self.TEXTS)]
        assert told == [("one", "two", "two", "three", "one")]
        assert [one.result.answer for one in pending if one.result] == [
            "ONE",
            "TWO",
            " ",
            "KEPT",
            "TWO",
            "THREE",
            "ONE",
        ]
        assert known.texts == ["known", "one", "two", "three"], "equal ones are asked once"
        answers.close()

    def test_one_by_one_nothing_else_comes_of_it(self) -> None:
        told = list[tuple[str, ...]]()
        answers = self.answers(Kept(), told)
        pending = [answers.submit(question(text)) for text in self.TEXTS]
        while answers.running:
            answers.collect(1)
        assert told == []
        assert [one.result.answer for one in pending if one.result] == [
            "ONE",
            "TWO",
            " ",
            "KNOWN",
            "TWO",
            "THREE",
            "ONE",
        ]
        answers.close()
