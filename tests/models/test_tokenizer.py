"""The chat prompt: the template renders as transformers renders it, and no text becomes a control token."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat import CHATML, CONTROL, told
from support.places import ROOT

from llmpar.errors import ModelUnavailable
from llmpar.models.tokenizer import ChatTokenizer

HOSTILE = (ROOT / "sample_data" / "hostile.txt").read_bytes().decode()
CONTROL_IDS = {0, 1, 2}


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer(tiny_model)


def with_template(model: Path, target: Path, template: str | None, **config: object) -> Path:
    shutil.copytree(model, target)
    (target / "chat_template.jinja").unlink()
    if template is not None:
        (target / "chat_template.jinja").write_text(template)
    if config:
        (target / "tokenizer_config.json").write_text(json.dumps(config))
    return target


def test_the_prompt_is_what_transformers_renders(tiny_model: Path, tokenizer: ChatTokenizer) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_model)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?\n"}]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert told(tokenizer, "How are you?\n") == expected


def test_white_space_goes_where_the_template_strips_it(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    strips = CHATML.replace("message['content']", "(message['content'] | trim)")
    model = with_template(tiny_model, tmp_path / "m", strips)
    theirs = AutoTokenizer.from_pretrained(model)
    messages = [{"role": "system", "content": "\n Be brief. "}, {"role": "user", "content": " \tHow\n are you?\n "}]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert told(ChatTokenizer(model), " \tHow\n are you?\n ", "\n Be brief. ") == expected


def test_text_is_data_and_comes_back(tokenizer: ChatTokenizer) -> None:
    @given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(CONTROL).map(lambda t: f"a{t}{t}b"))
    def check(text: str) -> None:
        ids = tokenizer.encode_data(text)
        assert CONTROL_IDS.isdisjoint(ids)
        assert tokenizer.decode(ids) == text

    check()


def test_hostile_text_adds_no_control_token(tokenizer: ChatTokenizer) -> None:
    frame = [token for token in told(tokenizer, "") if token in CONTROL_IDS]
    hostile = [token for token in told(tokenizer, HOSTILE) if token in CONTROL_IDS]
    assert hostile == frame


def test_nothing_forms_across_the_seam(tiny_model: Path, tmp_path: Path) -> None:
    template = "{{ '<|im_' }}{{ messages[0]['content'] }}{{ '_end|>' }}"
    tokenizer = ChatTokenizer(with_template(tiny_model, tmp_path / "m", template))
    for text in ("end|>", "start|>", "end|><|im"):
        assert CONTROL_IDS.isdisjoint(tokenizer.encode(text))


def test_a_control_name_that_is_also_a_word_is_spelled_otherwise(tiny_model: Path, tmp_path: Path) -> None:
    # As in a Unigram or WordLevel vocabulary, where the model itself can choose the control token's entry.
    from tokenizers import AddedToken, Tokenizer, models

    path = tmp_path / "m"
    shutil.copytree(tiny_model, path)
    pieces = [("<unk>", 0.0), ("<s>", 0.0), *((chr(i), -5.0) for i in range(32, 127))]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.add_special_tokens([AddedToken("<s>", special=True)])
    unigram.save(str(path / "tokenizer.json"))
    tokenizer = ChatTokenizer(path)
    control = unigram.token_to_id("<s>")
    assert control in unigram.encode("a<s>b").ids, "the vocabulary is not the trap it should be"
    ids = tokenizer.encode_data("a<s>b<s><s>")
    assert control not in ids
    assert tokenizer.decode(ids).replace(" ", "") == "a<s>b<s><s>"


def test_what_was_foreseen_is_encoded_alike(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, ahead = ChatTokenizer(tiny_model), ChatTokenizer(tiny_model)
    texts = ["One.", "One.", "", " two\n", "\ud800 three", *CONTROL, HOSTILE, "long " * 10_000, "me 我 é"]
    expected = [(alone.encode_data(text), told(alone, text)) for text in texts]
    ahead.foresee(texts)
    assert len(ahead._foreseen) > 4
    assert [(ahead.encode_data(text), told(ahead, text)) for text in texts] == expected
    one = ahead.encode_data("One.")
    ahead.foresee(["two"])
    assert list(ahead._foreseen) == ["two"], "only what comes next is kept"
    assert ahead.encode_data("One.") == one


def test_answers_that_are_decoded_together_are_decoded_alike(tokenizer: ChatTokenizer) -> None:
    outputs = [tokenizer.encode_data(text) for text in ("One.", "", "我 é", " two ")] + [[0, 5, 2], (7, 300)]
    assert tokenizer.decode_all(outputs) == [tokenizer.decode(ids) for ids in outputs]


def test_the_text_is_no_template(tiny_model: Path) -> None:
    tokenizer = ChatTokenizer(tiny_model)
    text = "{{ 1 + 1 }} {% for x in y %} {text} %s \ue000user\ue000 \ue000system\ue000"
    decoded = tokenizer.decode(told(tokenizer, text, "{{ messages }} {% raw %}"))
    assert text in decoded
    assert "{{ messages }} {% raw %}" in decoded


def test_lone_surrogates_become_replacement_characters(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode_data("a\udcffb")) == "a\ufffdb"


def test_a_template_without_a_system_role_puts_it_before_the_message(tiny_model: Path, tmp_path: Path) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    tokenizer = ChatTokenizer(with_template(tiny_model, tmp_path / "m", refuses))
    assert tokenizer.decode(told(tokenizer, "Hi")) == "user\nBe brief.\n\nHi\nassistant\n"


def test_a_model_without_a_template_continues_the_text(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer(with_template(tiny_model, tmp_path / "m", None, eos_token="<|im_end|>"))
    assert tokenizer.decode(tokenizer.encode("Once upon")) == "Once upon"
    assert tokenizer.stop_ids == {2}


@pytest.mark.parametrize("template", ["{% if %}", "{{ nothing.there }}", "{{ raise_exception('never') }}", "Hello."])
def test_a_broken_template_is_named(tiny_model: Path, tmp_path: Path, template: str) -> None:
    model = with_template(tiny_model, tmp_path / "m", template)
    with pytest.raises(ModelUnavailable, match="chat template"):
        ChatTokenizer(model)


def test_a_template_cannot_reach_out(tiny_model: Path, tmp_path: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}" + CHATML
    model = with_template(tiny_model, tmp_path / "m", escape)
    with pytest.raises(ModelUnavailable, match="chat template"):
        ChatTokenizer(model)


def test_a_damaged_tokenizer_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = with_template(tiny_model, tmp_path / "m", CHATML)
    (path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(ModelUnavailable, match="tokenizer"):
        ChatTokenizer(path)


def test_thirty_two_threads(tokenizer: ChatTokenizer) -> None:
    texts = [f"{i} {HOSTILE[i * 50 : i * 50 + 400]}" for i in range(64)]
    expected = [told(tokenizer, text) for text in texts]
    wrong: list[object] = []

    def work() -> None:
        for text, ids in zip(texts, expected, strict=True):
            try:
                if told(tokenizer, text) != ids:
                    wrong.append(text)
                tokenizer.decode(ids)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
