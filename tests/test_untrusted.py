"""Attacks: text that would be a control token, model files that would run code or never end, a hostile environment."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.chat import CHATML, told
from support.gguf_files import write_gguf
from support.places import ROOT
from support.program import Outcome

from llmpar import paths
from llmpar.documents.source import Source
from llmpar.errors import InputUnreadable, ModelUnavailable, WriteFailed
from llmpar.models import cache, packs, registry
from llmpar.models.load import load_model
from llmpar.models.tokenizer import ChatTokenizer

LETTERS = [chr(code) for code in range(33, 127)]
TEMPLATE = "<s>[INST] {{ messages[0]['content'] }} [/INST]"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))


def added(token_id: int, content: str, **options: bool) -> dict[str, Any]:
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": content, **usual, **options}


def description(model: dict[str, Any], tokens: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", **empty, "added_tokens": tokens, "model": model, **parts}


def words(*names: str) -> dict[str, int]:
    return {word: index for index, word in enumerate(dict.fromkeys([*names, *LETTERS, "▁"]))}


def bpe(*names: str, merges: list[str] | None = None, **options: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": words("<unk>", *names), "merges": merges or [], "unk_token": "<unk>", **options}


def unigram(*names: str) -> dict[str, Any]:
    return {"type": "Unigram", "vocab": [[word, -5.0 * (len(word) == 1)] for word in words("<unk>", *names)],
            "unk_id": 0, "byte_fallback": False}  # fmt: skip


def wordpiece(*names: str) -> dict[str, Any]:
    vocabulary = words("[UNK]", *names, *(f"##{letter}" for letter in LETTERS))
    return {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100}  # fmt: skip


def directory(path: Path, tokenizer: Any, template: str = TEMPLATE, **files: Any) -> Path:
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "chat_template.jinja").write_text(template)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def merged(word: str) -> tuple[list[str], list[str]]:
    """Return the pieces and merges by which BPE makes a word."""
    pieces = [word[:end] for end in range(2, len(word) + 1)]
    return pieces, [f"{word[: end - 1]} {word[end - 1]}" for end in range(2, len(word) + 1)]


EOS, EOS_MERGES = merged("</s>")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
REPLACED = {"type": "Replace", "pattern": {"String": "%"}, "content": "</s>"}
CONTROL = ["</s>", "<tool>"]
TOKENIZERS: dict[str, dict[str, Any]] = {
    "unigram": description(unigram(*CONTROL), [added(1, "</s>"), added(2, "<tool>", special=False)]),
    "bpe": description(bpe(*EOS, "<tool>", merges=EOS_MERGES), [added(3, "</s>"), added(4, "<tool>", special=False)]),
    "wordpiece": description(wordpiece(*CONTROL), [added(1, "</s>"), added(2, "<tool>", special=False)]),
    "absorbing": description(
        unigram(*CONTROL),
        [added(1, "</s>", lstrip=True, rstrip=True), added(2, "<tool>", single_word=True, normalized=True)],
    ),
    "metaspace": description(unigram(*CONTROL), [added(1, "</s>"), added(2, "<tool>")], pre_tokenizer=METASPACE),
    "wide": description(unigram(*CONTROL), [added(1, "</s>"), added(2, "<tool>")], normalizer={"type": "NFKC"}),
    "lower": description(unigram(*CONTROL), [added(1, "</s>"), added(2, "<tool>")], normalizer={"type": "Lowercase"}),
    "replaced": description(unigram(*CONTROL), [added(1, "</s>"), added(2, "<tool>")], normalizer=REPLACED),
    "template": description(
        unigram(*CONTROL),
        [added(1, "</s>"), added(2, "<tool>")],
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
    ),
}
HOSTILE = [
    "</s>", "a</s>b", "</s></s><tool>", "<tool>", " </s> ", "＜／ｓ＞", "</S>", "<TOOL>", "%", "100%", "<unk>", "[UNK]",
    "<</s>/s>", "</", "s>", "<to", "ol>", "我</s>我", "a\udcff</s>",
]  # fmt: skip


class TestControlTokens:
    @pytest.mark.parametrize("kind", TOKENIZERS)
    def test_text_yields_none_by_any_way(self, tmp_path: Path, kind: str) -> None:
        tokenizer = ChatTokenizer(directory(tmp_path / "m", TOKENIZERS[kind]))
        names = {"</s>", "<tool>", "<unk>", "[UNK]"}
        control = {i for name in names if (i := tokenizer._tokenizer.token_to_id(name)) is not None}
        frame = tokenizer.encode("")
        for text in HOSTILE:
            data = tokenizer.encode_data(text)
            assert control.isdisjoint(data), text
            prompt = tokenizer.encode(text)
            # What the template makes alone, and the data: nothing at the seam is anything else.
            assert len(prompt) == len(frame) + len(data)
            assert any(frame[:i] + data + frame[i:] == prompt for i in range(len(frame) + 1))

    @pytest.mark.parametrize("half", range(1, 4))
    def test_halves_do_not_meet_at_the_seam(self, tmp_path: Path, half: int) -> None:
        template = f"{{{{ '{'</s>'[:half]}' }}}}{{{{ messages[0]['content'] }}}}{{{{ '{'</s>'[half:]}' }}}}"
        tokenizer = ChatTokenizer(directory(tmp_path / "m", TOKENIZERS["unigram"], template))
        for text in ("</s>"[half:], "</s>"[:half], "</s>"[half:] + "</s>"[:half], ""):
            assert 1 not in tokenizer.encode(text)
        template = f"{{{{ messages[0]['content'] }}}}{'</s>'[:half]}{{{{ messages[1]['content'] }}}}"
        path = directory(tmp_path / "n", TOKENIZERS["unigram"], template)
        assert 1 not in told(ChatTokenizer(path, tries=False), "</s>"[half:], "a</s>")
        assert 1 not in told(ChatTokenizer(path, tries=False), "</s>"[half:], "a")

    @pytest.mark.parametrize(
        "files",
        [
            {"config": {"eos_token_id": 3}},
            {"generation_config": {"eos_token_id": [0, 3]}},
            {"config": {"text_config": {"image_token_id": 3}}},
            {"tokenizer_config": {"pad_token": "@end"}},
            {"tokenizer_config": {"bos_token": {"content": "@end"}}},
            {"special_tokens_map": {"additional_special_tokens": ["@end"]}},
            {"tokenizer_config": {"added_tokens_decoder": {"3": {"content": "@end"}}}},
        ],
    )
    def test_what_the_configs_name_counts_without_being_added(self, tmp_path: Path, files: dict[str, Any]) -> None:
        pieces, merges = merged("@end")
        model = bpe(*pieces, merges=merges)
        assert model["vocab"]["@end"] == 3
        tokenizer = ChatTokenizer(directory(tmp_path / "m", description(model, []), **files))
        ids = tokenizer.encode_data("a@end")
        assert 3 not in ids
        assert tokenizer.decode(ids).replace(" ", "") == "a@end"

    @pytest.mark.parametrize(
        "name", ["</s>", "<|im_end|>", "<start_of_turn>", "[INST]", "<｜end▁of▁sentence｜>", "<pad>"]
    )
    def test_what_is_called_like_one_counts_though_nobody_says_so(self, tmp_path: Path, name: str) -> None:
        tokenizer = ChatTokenizer(directory(tmp_path / "m", description(unigram(name), [])))
        assert 1 not in tokenizer.encode_data(f"a{name}b{name}")
        assert tokenizer.decode(tokenizer.encode_data(f"a{name}")).replace(" ", "") in (
            f"a{name}",
            "a<end▁of▁sentence>",
        )

    def test_a_character_stays_whatever_it_is_named(self, tmp_path: Path) -> None:
        # Configs that pad with token 0 exist where that is "!".
        model = bpe("<0x0A>", byte_fallback=True)
        files = {"generation_config": {"pad_token_id": model["vocab"]["!"], "eos_token_id": model["vocab"]["<0x0A>"]}}
        tokenizer = ChatTokenizer(directory(tmp_path / "m", description(model, []), **files))
        assert tokenizer.encode_data("!\n") == [model["vocab"]["!"], model["vocab"]["<0x0A>"]]

    @pytest.mark.parametrize("step", ["first", "always", "prepend", "bytes"])
    def test_text_gets_no_space_that_it_has_not(self, tmp_path: Path, step: str) -> None:
        prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]}
        space = {**METASPACE, "prepend_scheme": step}
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        parts: dict[str, dict[str, Any]] = {"prepend": {"normalizer": prepend}, "bytes": {"pre_tokenizer": byte_level}}
        model = bpe("Ġ")
        path = directory(tmp_path / "m", description(model, [], **parts.get(step, {"pre_tokenizer": space})))
        assert ChatTokenizer(path).encode_data("ab") == [model["vocab"]["a"], model["vocab"]["b"]]

    @pytest.mark.parametrize(
        ("damage", "files"),
        [
            ('{"version": "1.0", "mod', {}),
            ("[" * 10_000_000, {}),
            (
                description(unigram(), [], normalizer={"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}),
                {},
            ),
            (description(unigram(), [], pre_tokenizer={"type": "FixedLength", "length": 0}), {}),
            (description(bpe(), []), {"tokenizer_config": ["a"]}),
            (description(bpe(), []), {"special_tokens_map": 7}),
            (description({**unigram(), "unk_id": None}, []), {}),
        ],
        ids=["cut", "nested", "panic", "panic-later", "config-list", "map-number", "no-unknown"],
    )
    def test_a_damaged_tokenizer_is_refused_in_a_line(self, tmp_path: Path, damage: Any, files: Any) -> None:
        path = directory(tmp_path / "m", damage, **files)
        if isinstance(damage, str):
            (path / "tokenizer.json").write_text(damage)
        with pytest.raises(ModelUnavailable, match=str(path)) as caught:
            ChatTokenizer(path)
        assert len(str(caught.value).splitlines()) == 1


class TestTemplate:
    @pytest.mark.parametrize("change", [
        "upper", "lower", "title", "truncate(60)", "replace('\\n', ' ')", "replace('%', '')", "escape", "tojson",
        "wordwrap(20)", "indent", "urlencode", "reverse", "length", "first", "striptags", "forceescape",
    ])  # fmt: skip
    def test_one_that_changes_the_text_is_refused(self, tmp_path: Path, change: str) -> None:
        template = f"{{{{ messages[0]['content'] | {change} }}}}"
        path = directory(tmp_path / "m", TOKENIZERS["unigram"], template)
        with pytest.raises(ModelUnavailable, match="changes the user message"):
            ChatTokenizer(path)
        (path / "chat_template.jinja").write_text("{{ messages[0]['content'][:1000] }}")
        with pytest.raises(ModelUnavailable, match="changes the user message"):
            ChatTokenizer(path)

    def test_one_that_changes_only_the_system_prompt_gets_it_with_the_message(self, tmp_path: Path) -> None:
        template = "{% for m in messages %}{{ m.content | upper if m.role == 'system' else m.content }}{% endfor %}"
        tokenizer = ChatTokenizer(directory(tmp_path / "m", TOKENIZERS["unigram"], template))
        assert tokenizer.decode(told(tokenizer, "x", "Be")).replace(" ", "") == "Be<unk>x"  # it knows no newline

    def test_one_with_marks_of_its_own_shows_them(self, tmp_path: Path) -> None:
        template = "a\ue000user\ue000b{{ messages[0]['content'] }}"
        tokenizer = ChatTokenizer(directory(tmp_path / "m", description(unigram("\ue000"), []), template))
        assert tokenizer.decode(tokenizer.encode("x")).replace(" ", "") == "a\ue000user\ue000bx"

    @pytest.mark.parametrize("attack", [
        "{{ cycler.__init__.__globals__.os.system('touch executed') }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ ''['__cl' ~ 'ass__'] }}{{ (''|attr('__class__')).mro() }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception.__globals__.os }}",
        "{% set _ = messages.append(1) %}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 'a'.center(10**10) }}",
        "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 1 / 0 }}",
        "{{ 'a' * 2000000 }}",
        "{{ 'a' * 10**8 }}",
        "\xff",
    ])  # fmt: skip
    def test_a_hostile_one_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
        monkeypatch.chdir(tmp_path)
        path = directory(tmp_path / "m", TOKENIZERS["unigram"])
        (path / "chat_template.jinja").write_bytes((attack + CHATML).encode("latin-1"))
        with pytest.raises(ModelUnavailable) as caught:
            ChatTokenizer(path)
        assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / "executed").exists()

    def test_one_without_end_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmpar.models.template._SECONDS", 0.3)
        loops = "{% set x = 'a' * 99999 %}{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}"
        with pytest.raises(ModelUnavailable, match=r"more than 0\.3 seconds"):
            ChatTokenizer(directory(tmp_path / "m", TOKENIZERS["unigram"], loops + CHATML))

    @pytest.mark.parametrize("attack", [
        "{{ 9**(9**9) }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ 1|round(10**9, 'ceil') }}",
        "{{ ([[1]*10**4]*10**4)|sum(start=[]) }}",
        "{{ ('a '*10**7)|wordwrap(1) }}",
        "{% set n = namespace(l=[1], m=[1]) %}{% for i in range(40) %}{% set n.l = [n.l, n.l] %}"
        "{% set n.m = [n.m, n.m] %}{% endfor %}{{ n.l == n.m }}",
    ])  # fmt: skip
    def test_what_cannot_be_interrupted_is_ended_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
    ) -> None:
        monkeypatch.setattr("llmpar.models.template._SECONDS", 1.0)
        begun = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"more than 1 seconds|too much memory"):
            ChatTokenizer(directory(tmp_path / "m", TOKENIZERS["unigram"], attack + CHATML))
        assert time.monotonic() - begun < 10
        monkeypatch.undo()  # a busy machine takes longer to start what renders
        ChatTokenizer(directory(tmp_path / "good", TOKENIZERS["unigram"], CHATML))  # the next one is rendered

    @pytest.mark.parametrize("template", [  # what they use, not what they say
        CHATML,
        "{{ bos_token }}{%- for m in messages -%}\n  {% generation %}{{ m.content }}\n{% endgeneration %}"
        "{%- endfor %}",
        "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% continue %}{% endif %}{{ m.content }}{% endfor %}{{ ns.last }}"
        "{{ messages | tojson(indent=2) }}",
        "{{ dict(a=1, b='<é>') | tojson }}{{ strftime_now('%Y') }}{% if tools is not none %}x{% endif %}"
        "{% if not messages %}{{ raise_exception('none') }}{% endif %}{{ messages[0]['content'] | trim }}",
        "{{ add_generation_prompt }}{{ enable_thinking }}"
        "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(messages[-1].content) }}",
    ])  # fmt: skip
    def test_what_is_rendered_is_what_transformers_renders(self, template: str) -> None:
        from transformers.utils.chat_template_utils import render_jinja_template

        from llmpar.models.rendering import sandbox

        messages = [{"role": role, "content": f"{role} <&> é\n"} for role in ("system", "user", "assistant")]
        given = {"add_generation_prompt": True, "enable_thinking": False, "bos_token": "<s>"}
        (expected,), _ = render_jinja_template([messages], chat_template=template, **given)
        found = sandbox().from_string(template).render(messages=messages, tools=None, documents=None, **given)
        assert found == expected

    def test_a_namespace_holds_nothing_of_pythons(self) -> None:
        from jinja2.exceptions import SecurityError

        from llmpar.models.rendering import sandbox

        for attack in ("{{ namespace(_x=1) }}", "{% set n = namespace() %}{% set n._x = 1 %}"):
            with pytest.raises(SecurityError):
                sandbox().from_string(attack).render()

    def test_the_limits_end_with_it(self, tiny_model: Path) -> None:
        import resource

        limits, trace = resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()
        ChatTokenizer(tiny_model)
        assert (resource.getrlimit(resource.RLIMIT_AS), sys.gettrace()) == (limits, trace)


class Payload:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("executed",)


def changed(model: Path, target: Path, **config: Any) -> Path:
    shutil.copytree(model, target)
    settings = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | config))
    return target


def load(path: Path) -> None:
    load_model(registry.resolve(str(path)).path, "cpu", "fp32")


class TestModelFiles:
    @pytest.mark.parametrize(
        "config",
        [
            {"hidden_size": 10**9}, {"vocab_size": 10**12}, {"vocab_size": 7}, {"num_attention_heads": 10**9},
            {"head_dim": 10**9}, {"num_hidden_layers": 10**9}, {"num_hidden_layers": 1e300}, {"num_hidden_layers": 3},
            {"num_hidden_layers": 0}, {"num_hidden_layers": -1},
            {"text_config": {"num_experts": 10**9}}, {"attn_implementation": "evil/kernel"},
            {"text_config": {"_attn_implementation": {"": "evil/kernel"}}}, {"transformers_weights": "../../x.bin"},
            {"model_type": "nonesuch"}, {"model_type": "gpt2"}, {"model_type": ["a"]}, {"eos_token_id": "2"},
            {"eos_token_id": [[2]]}, {"max_position_embeddings": "x"},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_config_that_is_not_the_weights_is_refused(self, tiny_model: Path, tmp_path: Path, config: Any) -> None:
        path = changed(tiny_model, tmp_path / "m", **config)
        if "eos_token_id" in config:
            (path / "generation_config.json").unlink()
        began = time.monotonic()
        with pytest.raises(ModelUnavailable) as caught:
            load(path)
        assert time.monotonic() - began < 20
        assert len(str(caught.value).splitlines()) == 1

    def test_pickles_are_never_loaded(self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        bomb = pickle.dumps(Payload())
        assert pickle.loads(bomb) is None, "the payload works"
        (tmp_path / "executed").rmdir()
        path = changed(tiny_model, tmp_path / "m")
        (path / "pytorch_model.bin").write_bytes(bomb)
        (path / "training_args.bin").write_bytes(bomb)
        load(path)
        (path / "model.safetensors").write_bytes(bomb)
        with pytest.raises(ModelUnavailable, match=r"model\.safetensors"):
            load(path)
        gguf = tmp_path / "m.gguf"
        gguf.write_bytes(bomb)
        with pytest.raises(ModelUnavailable, match="not GGUF"):
            registry.resolve(str(gguf))
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize(
        "shard", ["../../etc/passwd", "/etc/passwd", "../other.safetensors", "pytorch_model.bin", 7]
    )
    def test_an_index_names_only_weights_of_the_directory(self, tiny_model: Path, tmp_path: Path, shard: Any) -> None:
        path = changed(tiny_model, tmp_path / "m")
        shutil.copyfile(path / "model.safetensors", tmp_path / "other.safetensors")
        (path / "pytorch_model.bin").write_bytes(b"")
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises(ModelUnavailable, match="names"):
            load(path)

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"])
    def test_a_pipe_or_device_is_not_waited_for(self, tiny_model: Path, tmp_path: Path, name: str) -> None:
        path = changed(tiny_model, tmp_path / "m")
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(ModelUnavailable, match="no ordinary file"):
            load(path)
        (path / name).unlink()
        (path / name).symlink_to("/dev/zero")
        with pytest.raises(ModelUnavailable, match="no ordinary file"):
            load(path)

    @pytest.mark.parametrize("header", [b"[" * 100_000, b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[-9,1e999]}}'])
    @pytest.mark.parametrize("length", [None, 1 << 62, 99_000_000])
    def test_an_absurd_header_is_refused(
        self, tiny_model: Path, tmp_path: Path, header: bytes, length: int | None
    ) -> None:
        path = changed(tiny_model, tmp_path / "m")
        (path / "model.safetensors").write_bytes(struct.pack("<Q", length or len(header)) + header)
        with pytest.raises(ModelUnavailable, match=r"model\.safetensors"):
            load(path)

    def test_deep_json_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        path = changed(tiny_model, tmp_path / "m")
        (path / "config.json").write_text('{"a":' * 100_000)
        with pytest.raises(ModelUnavailable, match=r"config\.json"):
            load(path)

    def test_an_adapter_is_no_model(self, tiny_model: Path, tmp_path: Path) -> None:
        path = changed(tiny_model, tmp_path / "m")
        (path / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelUnavailable, match="adapter"):
            load(path)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


class TestGguf:
    @pytest.mark.parametrize(
        "content",
        {
            "array": struct.pack("<QQ", 0, 1) + string(b"k") + struct.pack("<IIQ", 9, 0, 1 << 40),
            "strings": struct.pack("<QQ", 0, 1) + string(b"k") + struct.pack("<IIQ", 9, 8, 1 << 40),
            "fields": struct.pack("<QQ", 0, 1 << 60),
            "tensors": struct.pack("<QQ", 1 << 60, 0),
            "value": struct.pack("<QQ", 0, 1) + string(b"k") + struct.pack("<IQ", 8, 1 << 63),
            "key": struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 62),
            "dimensions": struct.pack("<QQ", 1, 0) + string(b"t") + struct.pack("<I", 0xFFFFFFFF),
            "size": struct.pack("<QQ", 1, 0) + string(b"t") + struct.pack("<IQQIQ", 2, 1 << 62, 1 << 62, 0, 1 << 62),
            "nested": struct.pack("<QQ", 0, 1) + string(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 50000,
        }.values(),
        ids=["array", "strings", "fields", "tensors", "value", "key", "dimensions", "size", "nested"],
    )
    def test_counts_beyond_the_file_are_refused_at_once(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "evil.gguf"
        path.write_bytes(b"GGUF" + struct.pack("<I", 3) + content)
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"evil\.gguf") as caught:
            registry.resolve(str(path))
        assert time.monotonic() - began < 10
        assert len(str(caught.value).splitlines()) == 1

    def test_layers_without_end_are_refused(self, tmp_path: Path) -> None:
        path = write_gguf(tmp_path / "evil.gguf")
        content, key = path.read_bytes(), b"llama.block_count"
        at = content.index(key) + len(key) + 4
        path.write_bytes(content[:at] + struct.pack("<I", 10**9) + content[at + 4 :])
        with pytest.raises(ModelUnavailable, match="num_hidden_layers is 1000000000"):
            registry.resolve(str(path))

    def test_code_beside_it_is_not_run_though_stdin_says_yes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        path = write_gguf(tmp_path / "m.gguf", pre="viking", known=False)  # a tokenizer that is left to transformers
        auto = {"auto_map": {"AutoTokenizer": ["evil.Evil"] * 2, "AutoConfig": "evil.Evil"}, "model_type": "evil"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**auto, "tokenizer_class": "Evil"}))
        (tmp_path / "config.json").write_text(json.dumps(auto))
        (tmp_path / "evil.py").write_text("import os\nos.mkdir('executed')\nclass Evil: pass\n")
        asked: list[object] = []
        monkeypatch.setattr("builtins.input", lambda *prompt: asked.append(prompt) or "y")
        assert registry.resolve(str(path)).path.is_dir()
        assert not asked
        assert not (tmp_path / "executed").exists()


class TestNames:
    @pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "-rf", "a\udcffb", "a\u202eb", "a\rb", "a\u2028b"])
    def test_a_message_is_one_line_whatever_the_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputUnreadable) as unreadable:
            Source(str(tmp_path / name))
        (tmp_path / name).mkdir()
        with pytest.raises(InputUnreadable) as no_file:
            Source(str(tmp_path / name))
        with pytest.raises(ModelUnavailable) as no_model:
            registry.resolve(str(tmp_path / name))
        (tmp_path / name / "tokenizer.json").write_text("{")
        with pytest.raises(ModelUnavailable) as damaged:
            ChatTokenizer(tmp_path / name)
        for caught in (unreadable, no_file, no_model, damaged):
            assert len(str(caught.value).splitlines()) == 1
            assert not any(char in str(caught.value) for char in "\x1b\r\udcff\u202e\u2028")

    def test_the_path_of_a_model_is_printed_byte_for_byte(
        self, tiny_model: Path, tmp_path: Path, llmpar: Callable[..., Outcome]
    ) -> None:
        path = changed(tiny_model, tmp_path / "a\udcff b")
        assert llmpar("models", "path", str(path)).out == os.fsencode(path) + b"\n"


class TestCache:
    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
    def test_what_others_may_have_written_is_not_used(self, tiny_model: Path, mode: int) -> None:
        entry = paths.cache_dir() / "models" / "tiny"
        shutil.copytree(tiny_model, entry)
        entry.parent.chmod(mode)
        with pytest.raises(WriteFailed, match="chmod go-w"):
            cache.cached("tiny", "tiny")
        with pytest.raises(WriteFailed, match="chmod go-w"), cache.locked("tiny", print):
            pass

    def test_what_is_anothers_is_not_used(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "getuid", lambda: 54321)
        if tmp_path.stat().st_uid == 0:
            paths.make_private(tmp_path)  # root's is as good as ours
            os.chown(tmp_path, 12345, -1)
        with pytest.raises(WriteFailed, match="another user"):
            paths.make_private(tmp_path)

    def test_no_home_is_said_and_nothing_is_named_so(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llmpar: Callable[..., Outcome]
    ) -> None:
        import pwd

        monkeypatch.chdir(tmp_path)
        for name in ("HOME", "LLMPAR_CACHE", "LLMPAR_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)

        def nobody(_: object) -> None:
            raise KeyError("no such user")

        monkeypatch.setattr(pwd, "getpwuid", nobody)
        for variable, directory in (("LLMPAR_CACHE", paths.cache_dir), ("LLMPAR_STATE", paths.state_dir)):
            with pytest.raises(WriteFailed, match=f"set {variable}=DIR"):
                directory()
            monkeypatch.setenv(variable, "~/x")  # as in a crontab, which expands nothing
            with pytest.raises(WriteFailed, match=f"set {variable}=DIR"):
                directory()
            monkeypatch.setenv(variable, "~nobody-of-that-name/x")
            with pytest.raises(WriteFailed, match=f"set {variable}=DIR"):
                directory()
            monkeypatch.setenv(variable, str(tmp_path / "kept"))
            assert directory() == tmp_path / "kept"
            monkeypatch.setenv(variable, "")
        outcome = llmpar("models", "list")
        assert outcome.code == 74
        assert outcome.err == "llmpar: there is no home directory to keep files in; set LLMPAR_CACHE=DIR\n"
        assert packs.find(tmp_path, "int8", 1) is None
        assert list(tmp_path.iterdir()) == []


DENIED = """
import socket, sys
real = socket.socket
class Denied(real):
    def __init__(self, family=-1, *more, **options):
        if family in (-1, socket.AF_INET, socket.AF_INET6):
            raise AssertionError("a socket")
        super().__init__(family, *more, **options)
def denied(*_, **__):
    raise AssertionError("a look-up")
socket.socket, socket.getaddrinfo, socket.gethostbyname = Denied, denied, denied
from llmpar.cli.main import run_command_line
codes = []
for line in sys.argv[1:]:
    codes.append(run_command_line(line.split()))
print(codes, file=sys.stderr)
"""


class TestOffline:
    def test_no_socket_is_opened(self, tiny_model: Path, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("Hello there.\n")
        run = f"run x {tmp_path}/in.txt -o {tmp_path}/out.txt --offline --max-new-tokens 2 -j 1"
        commands = {
            "models list": 0,
            f"models path {tiny_model}": 0,
            "models path smollm2-135m": 69,
            "models path owner/repo": 69,
            f"{run} -m smollm2-135m": 69,
            f"{run} -m owner/repo": 69,
            f"{run} -m ./nowhere": 69,
            f"{run} -m {tiny_model} --dry-run": 0,
            f"{run} -m {tiny_model} --precision fp32": 0,
        }
        done = subprocess.run(
            [sys.executable, "-c", DENIED, *commands],
            capture_output=True, text=True, timeout=300, cwd=ROOT,
            env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "LLMPAR_STATE": str(tmp_path / "state")},
        )  # fmt: skip
        assert done.stderr.splitlines()[-1] == str(list(commands.values())), done.stderr
        assert (tmp_path / "out.txt").exists()

    def test_absent_is_69_at_once(
        self, shell: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
    ) -> None:
        began = time.monotonic()
        done = shell("run", "x", "--offline", "-m", "owner/repo", env={"HF_HOME": str(tmp_path)}, input=b"a")
        assert done.returncode == 69
        assert done.stderr.count(b"\n") == 1
        assert time.monotonic() - began < 20


class TestCron:
    @pytest.mark.parametrize("closing", ["<&-", "</dev/null", "<&- 2>&-"])
    def test_an_empty_environment_does(self, tmp_path: Path, closing: str) -> None:
        (tmp_path / "in.txt").write_bytes("Grüße, 世界.\n".encode())
        command = f"{sys.executable} -m llmpar run x --engine echo in.txt {closing}"
        done = subprocess.run(
            ["env", "-i", "PATH=/usr/bin:/bin", "LANG=C", f"PYTHONPATH={ROOT}", "sh", "-c", command],
            cwd=tmp_path, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert done.stdout == "Grüße, 世界.\n".encode()
        assert b"\x1b" not in done.stderr
        assert done.stderr.count(b"\n") == (0 if "2>" in closing else 1)
        assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
