"""`llmpar translate`: what is shown to the model beside the text, and models made for translation behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.program import Outcome
from support.translators import expected

from llmpar.answering import echo
from llmpar.answering.choice import ModelChoice
from llmpar.answering.model import LocalModel
from llmpar.tasks import translation
from llmpar.tasks.question import Prompt, Question

Call = Callable[..., Outcome]
TYPED = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{% set part = message['content'][0] %}"
    "{{ '<|im_start|>user\n' + part['source_lang_code'] + '>' + part['target_lang_code'] + ': ' }}"
    "{{ part['text'] | trim }}"
    "{{ '<|im_end|>\n' }}{% else %}{{ raise_exception('only users speak') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class Silence:
    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def watch(self, statuses: object) -> None: ...


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a model would have been told."""
    told: list[str] = []

    def encode(prompt: Prompt) -> bytes:
        told.append(prompt.messages[-1][1])
        return prompt.text.encode()

    monkeypatch.setattr(echo, "CODEC", replace(echo.CODEC, encode=encode))
    return told


def test_context_shows_neighbours_and_translates_each_once(llmpar: Call, seen: list[str]) -> None:
    text = b"One comes.\n\nTwo goes. Three stays.\n"
    outcome = llmpar("translate", "--to", "fr", "--context", "1", "--engine", "echo", "-q", stdin=text)
    assert outcome.out == text
    assert [prompt.rpartition("\n\n")[2] for prompt in seen] == ["One comes.", "Two goes.", "Three stays."]
    shown = [(": One comes." in prompt, "Two goes.\n" in prompt, "Three stays.\n" in prompt) for prompt in seen]
    assert shown == [(False, True, False), (True, False, True), (False, True, False)]
    seen.clear()
    llmpar("translate", "--to", "fr", "--engine", "echo", "-q", stdin=text)
    assert not any("context" in prompt for prompt in seen)


def test_only_terms_that_occur_are_shown(llmpar: Call, seen: list[str], tmp_path: Path) -> None:
    glossary = tmp_path / "terms.csv"
    glossary.write_text("English,French\nharbour,port de pêche\nclock,horloge\n")
    options = ("translate", "--to", "fr", "--glossary", str(glossary), "--engine", "echo", "-q")
    llmpar(*options, stdin=b"The Harbour is big. It rains.")
    harbour, rain = seen
    assert "harbour = port de pêche" in harbour
    assert "horloge" not in harbour
    assert "terms" not in rain


def test_a_glossary_that_is_none(llmpar: Call, tmp_path: Path) -> None:
    glossary = tmp_path / "terms.csv"
    glossary.write_text("harbour,port\nclock\n")
    outcome = llmpar("translate", "--to", "fr", "--glossary", str(glossary), stdin=b"x")
    assert (outcome.code, "terms.csv:2" in outcome.err) == (65, True), outcome.err
    assert llmpar("translate", "--to", "fr", "--glossary", str(tmp_path / "none"), stdin=b"x").code == 66


class TestMadeForIt:
    TEXTS = ("Hello there.", "Good boats go out.")  # its vocabulary has no T

    def test_nllb(self, llmpar: Call, nllb: Path) -> None:
        import transformers

        tokenizer: Any = transformers.NllbTokenizer.from_pretrained(nllb, src_lang="eng_Latn")
        target = tokenizer.convert_tokens_to_ids("fra_Latn")
        ids = expected(nllb, tokenizer, list(self.TEXTS), 2, forced_bos_token_id=target)
        options = ("translate", "--to", "French", "--from", "en", "--model", str(nllb), "--precision", "fp32")
        options += ("--check", "none", "--max-new-tokens", "12", "--max-repeats", "0", "--merge", "jsonl")
        outcome = llmpar(*options, stdin="\n\n".join(self.TEXTS).encode())
        assert outcome.code == 0, outcome.err
        found = [json.loads(line)["answer"] for line in outcome.out.splitlines()]
        assert found == [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def test_marian(self, llmpar: Call, multilingual: Path) -> None:
        options = ("translate", "--to", "German", "--model", str(multilingual), "--check", "none", "-q")
        outcome = llmpar(*options, "--max-new-tokens", "5", stdin=b"Hello there.")
        assert outcome.code == 0, outcome.err

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("translate", "--to", "French"), "needs --from LANG"),
            (("translate", "--to", "Danish", "--from", "en"), "does not know Danish"),
            (("run", "Say it"), "only translates"),
            (("summarize",), "only translates"),
        ],
    )
    def test_what_it_cannot_do(self, llmpar: Call, nllb: Path, options: tuple[str, ...], reason: str) -> None:
        outcome = llmpar(*options, "--model", str(nllb), stdin=b"Hello there.")
        assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err
        assert reason in outcome.err

    def test_a_template_that_takes_languages(self, tiny_model: Path, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        path = tmp_path / "typed"
        shutil.copytree(tiny_model, path)
        (path / "chat_template.jinja").write_text(TYPED)
        task = translation.make_task("de", "en")
        model = LocalModel(ModelChoice(str(path)), Silence())
        text = " Hello <|im_end|> {{ x }} "
        question = Question(segment(text), task)
        theirs: Any = AutoTokenizer.from_pretrained(path)
        part = {"type": "text", "source_lang_code": "en", "target_lang_code": "de", "text": "Hello {{ x }}"}
        wanted = theirs.apply_chat_template(
            [{"role": "user", "content": [part]}], add_generation_prompt=True, return_dict=False
        )
        assert model._tokens.encode(Question(segment(" Hello {{ x }} "), task).prompt) == wanted
        control = [token for token in model._tokens.encode(question.prompt) if token in {0, 1, 2}]
        assert control == [token for token in wanted if token in {0, 1, 2}]


def segment(text: str) -> Any:
    from support.questions import question

    return question(text).segment
