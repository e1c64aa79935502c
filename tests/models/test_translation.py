"""Models made for translation: recognised, asked as transformers asks them, and never by what a text says."""

from __future__ import annotations

import io
import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.translators import (
    HOSTILE,
    T5,
    TEXTS,
    expected,
    gemma3,
    hf_marian,
    marian,
    pieces,
    save_model,
)

from llmpar.engine.build import build_engine
from llmpar.engine.request import Request, SamplingParams
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models.load import load_model
from llmpar.models.registry import resolve
from llmpar.models.translation import ChatTranslation, Seq2SeqTranslation, TranslationPrompt, find_family

WORDS = " ".join(TEXTS * 20)
SPECIAL = ["<pad>", "</s>", "<unk>"]
MADLAD = ["<2de>", "<2fr>", "<2pt>", "<2zh>"]
TEMPLATE = """{%- set languages = {
    "de": "German", "de-AT": "German", "en": "English", "pt-BR": "Portuguese", 'zh-Hant': 'Chinese'
} -%}
{{ bos_token }}
{%- for message in messages -%}
{%- set content = message['content'][0] -%}
{%- if content['source_lang_code'] not in languages or content['target_lang_code'] not in languages -%}
{{ raise_exception('no such language') }}
{%- endif -%}
<start_of_turn>user
Translate {{ languages[content['source_lang_code']] }} into {{ languages[content['target_lang_code']] }}:
{{ content['text'] | trim }}<end_of_turn>
{%- endfor -%}
"""


def t5(path: Path, *, declared: bool) -> Path:
    """Save a tiny MADLAD, whose languages are declared as tokens, or are but words of the vocabulary."""
    words = [(word, 0.0) for word in SPECIAL] + [(word, -float(5 - len(word))) for word in pieces()]
    if not declared:
        words += [(word, -1.0) for word in MADLAD]
    tokenizer = transformers.T5Tokenizer(vocab=words, extra_ids=0, additional_special_tokens=[])
    if declared:
        tokenizer.add_special_tokens({"additional_special_tokens": MADLAD})
    tokenizer.save_pretrained(path)
    file = path / "tokenizer.json"  # its normalizer makes other characters into those of a token's name
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "NFKC"}}))
    config = transformers.T5Config(**T5 | {"vocab_size": len(tokenizer), "feed_forward_proj": "gated-gelu"})
    save_model(path, "T5ForConditionalGeneration", config)
    return path


@pytest.fixture(scope="module", params=["declared", "words"])
def madlad(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t5(tmp_path_factory.mktemp("models") / "madlad", declared=request.param == "declared")


@pytest.fixture(scope="module")
def bilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    languages = {"source_lang": "en", "target_lang": "de"}
    return marian(tmp_path_factory.mktemp("models") / "opus", languages=[], config=languages)


def opened(path: Path) -> Seq2SeqTranslation:
    family = find_family(resolve(str(path)).path)
    assert isinstance(family, Seq2SeqTranslation)
    return family


def answers(path: Path, prompt: TranslationPrompt, texts: list[str]) -> list[list[int]]:
    loaded = load_model(path, "cpu", "fp32")
    opening = len(prompt.opening_ids)
    stops = loaded.stop_ids | prompt.vocabulary.stop_ids
    found: dict[int, list[int]] = {}
    with build_engine(loaded.models, loaded.context_length, stops, 2, 3, num_opening=opening) as engine:
        for index, text in enumerate(texts):
            engine.submit(Request(index, prompt.encode(text), SamplingParams(12)))
        for _ in texts:
            completion = engine.collect(timeout=60)
            assert completion is not None
            assert completion.error is None, completion.error
            found[completion.id] = list(completion.output_ids)
    return [found[index] for index in range(len(texts))]


class TestNllb:
    def test_asks_as_transformers_does(self, nllb: Path) -> None:
        tokenizer = transformers.NllbTokenizer.from_pretrained(nllb, src_lang="eng_Latn")
        texts = TEXTS[:-1]  # its vocabulary has no newline
        prompt = opened(nllb).prompt("en", "fr")
        target = tokenizer.convert_tokens_to_ids("fra_Latn")
        for text in texts:
            assert prompt.encode(text) == [*tokenizer(text).input_ids, 2, target]
        assert prompt.opening_ids == (2, target)
        assert prompt.vocabulary.stop_ids == frozenset({2})
        wanted = expected(nllb, tokenizer, texts, 2, forced_bos_token_id=target)
        found = answers(nllb, prompt, texts)
        assert found == wanted
        assert [prompt.vocabulary.decode(ids) for ids in found] == tokenizer.batch_decode(
            wanted, skip_special_tokens=True
        )

    @pytest.mark.parametrize(
        ("tag", "code"),
        [("de", "deu_Latn"), ("zh", "zho_Hans"), ("zh-TW", "zho_Hant"), ("zh-Hant", "zho_Hant"), ("pt-BR", "por_Latn")],
    )
    def test_languages_are_found(self, nllb: Path, tag: str, code: str) -> None:
        family = opened(nllb)
        assert family.prompt("en", tag).opening_ids[1] == family.codes[code]
        assert family.prompt(tag, "en").source_ids == (family.codes[code],)

    def test_languages_that_it_does_not_know_are_refused(self, nllb: Path) -> None:
        family = opened(nllb)
        with pytest.raises(UsageError, match=r"'nllb' does not know Danish \(da\); it knows en-Latn, zh-Hans"):
            family.prompt("en", "da")
        with pytest.raises(UsageError, match="does not know Ukrainian"):
            family.prompt("uk", "en")
        with pytest.raises(UsageError, match=r"does not know German \(Cyrillic\).*it knows de-Latn, "):
            family.prompt("en", "de-Cyrl")
        with pytest.raises(UsageError, match="'klingon' is no language tag"):
            family.prompt("en", "klingon")

    def test_it_needs_the_source(self, nllb: Path) -> None:
        with pytest.raises(UsageError, match="'nllb' needs source=LANG"):
            opened(nllb).prompt(None, "de")


class TestMadlad:
    def test_asks_as_transformers_does(self, madlad: Path) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(madlad)
        prompt = opened(madlad).prompt(None, "fr")
        texts = [text for text in TEXTS if text]
        for text in texts:
            assert prompt.encode(text) == [*tokenizer(f"<2fr> {text}").input_ids, 0]
        assert prompt.vocabulary.stop_ids == frozenset({1})
        wanted = expected(madlad, tokenizer, [f"<2fr> {text}" for text in texts], 1)
        found = answers(madlad, prompt, texts)
        assert found == wanted
        assert [prompt.vocabulary.decode(ids) for ids in found] == tokenizer.batch_decode(
            wanted, skip_special_tokens=True
        )

    def test_languages(self, madlad: Path) -> None:
        family = opened(madlad)
        assert set(family.codes) == {"de", "fr", "pt", "zh"}
        assert family.prompt("da", "pt-BR").source_ids[-1] == family.codes["pt"]
        with pytest.raises(UsageError, match=r"does not know Chinese \(Traditional\).*it knows zh, fr, pt, de$"):
            family.prompt(None, "zh-Hant")


class TestMarian:
    def test_asks_as_transformers_does(self, bilingual: Path) -> None:
        tokenizer = hf_marian(bilingual)
        prompt = opened(bilingual).prompt("en", "de")
        start = tokenizer.pad_token_id
        for text in [*TEXTS, "unknown: ж—ж, c"]:
            assert prompt.encode(text) == [*tokenizer(text).input_ids, start]
        assert tokenizer.unk_token_id in prompt.encode("ж—ж")
        assert prompt.vocabulary.stop_ids == frozenset({0})
        wanted = expected(bilingual, tokenizer, TEXTS, 1)
        found = answers(bilingual, prompt, TEXTS)
        assert found == wanted
        assert [prompt.vocabulary.decode(ids) for ids in found] == tokenizer.batch_decode(
            wanted, skip_special_tokens=True
        )
        # what its own tokenizer prints as two pieces too many, or not at all
        assert prompt.vocabulary.decode([*tokenizer("the cat").input_ids, start, 1, 10**6]) == "the cat"

    def test_a_model_of_many_languages_is_told_which(self, multilingual: Path) -> None:
        tokenizer = hf_marian(multilingual)
        family = opened(multilingual)
        prompt = family.prompt(None, "fr")
        start = tokenizer.pad_token_id
        for text in TEXTS:
            assert prompt.encode(text) == [*tokenizer(f">>fra<<{text}").input_ids, start]
        assert answers(multilingual, prompt, TEXTS) == expected(
            multilingual, tokenizer, [f">>fra<<{text}" for text in TEXTS], 1
        )
        assert answers(multilingual, family.prompt(None, "de"), TEXTS) != answers(multilingual, prompt, TEXTS)
        for tag, code in {"pt": "pt_br", "pt-BR": "pt_br", "pt-PT": "pt_PT"}.items():
            assert family.prompt("en", tag).source_ids == (family.codes[code],)
        with pytest.raises(UsageError, match=r"does not know Romanian \(ro\); it knows fr, pt-BR, de, pt-PT$"):
            family.prompt("en", "ro")
        with pytest.raises(UsageError, match=r"translates from English \(en\) only, not from Romanian \(ro\)"):
            family.prompt("ro", "fr")

    def test_a_model_of_two_languages_refuses_others(self, bilingual: Path) -> None:
        family = opened(bilingual)
        assert family.prompt(None, "de") == family.prompt("en-GB", "de-AT")
        with pytest.raises(UsageError, match=r"'opus' translates to German \(de\) only, not to French \(fr\)"):
            family.prompt("en", "fr")
        with pytest.raises(UsageError, match=r"translates from English \(en\) only, not from Danish \(da\)"):
            family.prompt("da", "de")

    @pytest.mark.parametrize("config", [{}, {"source_lang": "gmq", "target_lang": "ROMANCE"}, {"target_lang": 7}])
    def test_what_says_no_language_refuses_none(self, bilingual: Path, tmp_path: Path, config: dict[str, Any]) -> None:
        path = Path(shutil.copytree(bilingual, tmp_path / "model"))
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        assert opened(path).prompt("da", "ro").source_ids == ()

    def test_two_vocabularies(self, bilingual: Path, tmp_path: Path) -> None:
        path = Path(shutil.copytree(bilingual, tmp_path / "model"))
        words = json.loads((path / "vocab.json").read_text())
        mirrored = {word: len(words) - 1 - index for word, index in words.items()}
        (path / "target_vocab.json").write_text(json.dumps(mirrored))
        (path / "tokenizer_config.json").write_text(json.dumps({"separate_vocabs": True}))
        before, after = opened(bilingual).prompt(None, "de"), opened(path).prompt(None, "de")
        assert after.encode("the cat") == before.encode("the cat")
        ids = before.encode("the cat")
        assert (
            after.vocabulary.decode([len(words) - 1 - token_id for token_id in ids])
            == before.vocabulary.decode(ids)
            == "the cat"
        )
        assert after.vocabulary.stop_ids == frozenset({len(words) - 1})

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("source.spm", None),
            ("target.spm", b"not one"),
            ("source.spm", b""),
            ("vocab.json", None),
            ("vocab.json", b"[]"),
            ("vocab.json", b'{"</s>": 0}'),
            ("vocab.json", b'{"</s>": 0, "<unk>": "1"}'),
            ("tokenizer_config.json", b"{"),
        ],
    )
    def test_damage_is_refused(self, bilingual: Path, tmp_path: Path, file: str, content: bytes | None) -> None:
        path = Path(shutil.copytree(bilingual, tmp_path / "model"))
        (path / file).unlink()
        if content is not None:
            (path / file).write_bytes(content)
        with pytest.raises(ModelUnavailable, match=file):
            find_family(path)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_a_control_token(
    nllb: Path, madlad: Path, bilingual: Path, multilingual: Path, text: str
) -> None:
    for path, languages in ((nllb, ("en", "fr")), (madlad, (None, "fr")), (bilingual, ("en", "de")),
                            (multilingual, (None, "fr"))):  # fmt: skip
        family = opened(path)
        prompt = family.prompt(*languages)
        ids = prompt.encode(text)
        data = ids[len(prompt.source_ids) : len(ids) - len(prompt.opening_ids) - 1]
        vocabulary: Any = prompt.vocabulary
        control = set(family.codes.values()) | {prompt.end_id, *prompt.opening_ids}
        assert not control & set(data), f"{path.name}: {text}"
        assert not set(data) & (set(vocabulary._control_ids) - {getattr(vocabulary, "_unknown", None)})
        assert ids[-len(prompt.opening_ids) :] == list(prompt.opening_ids)
        assert ids[: len(prompt.source_ids)] == list(prompt.source_ids)
        assert unicodedata.normalize("NFKC", prompt.vocabulary.decode(data)).replace(" ", "") == unicodedata.normalize(
            "NFKC", text
        ).replace(" ", ""), "it is another text now"


def test_a_control_token_that_is_a_piece_is_spelled(multilingual: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(multilingual, tmp_path / "model"))
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, *HOSTILE] * 9), model_writer=model, vocab_size=99, hard_vocab_limit=False,
        character_coverage=1.0, minloglevel=2, user_defined_symbols=[">>fra<<", "<pad>"],
    )  # fmt: skip
    (path / "source.spm").write_bytes(model.getvalue())
    vocabulary: Any = opened(path).vocabulary
    assert ">>fra<<" in vocabulary._source.encode("the >>fra<< hat", out_type=str)
    ids = vocabulary.encode_data("the >>fra<< <pad>hat")
    assert not set(ids) & vocabulary._control_ids - {vocabulary._unknown}
    assert vocabulary.decode(ids).replace(" ", "") == "the>>fra<<<pad>hat"


class TestChat:
    @pytest.fixture
    def gemma(self, tmp_path: Path) -> Path:
        path = tmp_path / "gemma"
        gemma3(path)
        (path / "chat_template.jinja").write_text(TEMPLATE)
        return path

    def test_the_template_is_told_the_languages(self, gemma: Path) -> None:
        from transformers.utils import chat_template_utils

        family = find_family(gemma)
        assert isinstance(family, ChatTranslation)
        assert family.codes == ("de", "de-AT", "en", "pt-BR", "zh-Hant")
        content = family.content("en-GB", "de")
        assert content == {"type": "text", "source_lang_code": "en", "target_lang_code": "de"}
        render: Any = chat_template_utils.render_jinja_template
        messages = [{"role": "user", "content": [{**content, "text": "Hello"}]}]
        (text,), _ = render(conversations=[messages], chat_template=TEMPLATE, bos_token="<bos>")
        assert text == "<bos><start_of_turn>user\nTranslate English into German:\nHello<end_of_turn>"

    @pytest.mark.parametrize(
        ("tag", "code"),
        [("de-AT", "de-AT"), ("de-CH", "de"), ("pt", "pt-BR"), ("pt-PT", "pt-BR"), ("zh-TW", "zh-Hant")],
    )
    def test_languages_are_found(self, gemma: Path, tag: str, code: str) -> None:
        family = find_family(gemma)
        assert isinstance(family, ChatTranslation)
        assert family.content("en", tag)["target_lang_code"] == code
        assert family.content(tag, "en")["source_lang_code"] == code

    def test_languages_are_refused(self, gemma: Path) -> None:
        family = find_family(gemma, "google/gemma")
        assert isinstance(family, ChatTranslation)
        with pytest.raises(UsageError, match="'google/gemma' needs source=LANG"):
            family.content(None, "de")
        with pytest.raises(UsageError, match=r"does not know Chinese \(zh\); it knows zh-Hant, en, pt-BR, de"):
            family.content("en", "zh")

    def test_a_template_that_lists_no_languages_is_told_the_tag(self, gemma: Path) -> None:
        (gemma / "chat_template.jinja").unlink()
        template = "{{ messages[0].content[0].source_lang_code ~ messages[0].content[0].target_lang_code }}"
        (gemma / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        family = find_family(gemma)
        assert isinstance(family, ChatTranslation)
        content = family.content("iw", "sr_latn")
        assert (content["source_lang_code"], content["target_lang_code"]) == ("he", "sr-Latn")


class TestFamily:
    def test_other_models_are_none(self, tiny_model: Path) -> None:
        assert find_family(tiny_model) is None

    @pytest.mark.parametrize("kind", ["nllb", "madlad"])
    def test_a_vocabulary_without_languages_is_none(
        self, kind: str, nllb: Path, tmp_path: Path, tiny_model: Path
    ) -> None:
        path = Path(shutil.copytree(nllb, tmp_path / "model"))
        shutil.copy(tiny_model / "tokenizer.json", path / "tokenizer.json")
        if kind == "madlad":
            (path / "config.json").write_text(json.dumps({"model_type": "t5"}))
        assert find_family(path) is None

    def test_names_of_directories_mean_nothing(self, tiny_model: Path, tmp_path: Path) -> None:
        assert find_family(Path(shutil.copytree(tiny_model, tmp_path / "nllb-200-opus-mt-madlad400"))) is None

    @pytest.mark.parametrize("key", ["decoder_start_token_id", "eos_token_id"])
    @pytest.mark.parametrize("value", [None, "2", -1, [1, 2], True])
    def test_what_a_config_must_say_is_missed(self, nllb: Path, tmp_path: Path, key: str, value: object) -> None:
        path = Path(shutil.copytree(nllb, tmp_path / "model"))
        for file in (path / "config.json", path / "generation_config.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
        with pytest.raises(ModelUnavailable, match=key):
            find_family(path)

    @pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
    @pytest.mark.parametrize("content", [b"", b"[]", b"\xff{", b"{}"])
    def test_damage_is_refused(self, nllb: Path, tmp_path: Path, file: str, content: bytes) -> None:
        path = Path(shutil.copytree(nllb, tmp_path / "model"))
        (path / file).write_bytes(content)
        if (file, content) == ("config.json", b"{}"):
            assert find_family(path) is None
        else:
            with pytest.raises(ModelUnavailable):
                find_family(path)


def test_the_registry_takes_marian_as_it_is(bilingual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    assert resolve(str(bilingual)).path == bilingual.resolve()
    assert not (tmp_path / "cache").exists()
