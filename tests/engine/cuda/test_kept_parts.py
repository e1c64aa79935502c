"""Parts of a model that are kept: transformers is asked of it once, and what is loaded from then on is the same."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from support.constraints import STOP  # noqa: E402
from support.engines import collected  # noqa: E402
from support.gguf_models import write_model  # noqa: E402
from support.tiny_models import PREFIX, generated, make, make_shallow, prompts  # noqa: E402

from llmpar.engine.build import build_engine  # noqa: E402
from llmpar.engine.cuda import from_transformers  # noqa: E402
from llmpar.engine.cuda.decoder import Decoder  # noqa: E402
from llmpar.engine.request import SamplingParams  # noqa: E402
from llmpar.models import parts  # noqa: E402
from llmpar.models.on_gpu import put_on_gpu  # noqa: E402

# NumPy, which the interpreter computes with, warns where a number is infinite or none, as on a GPU it just is.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where parts are kept."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "plans"


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no decoder be tried, which takes seconds without a GPU."""
    monkeypatch.setattr(from_transformers, "_tried", lambda decoder, _: decoder)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a model's directory."""
    deepcopy(make_shallow("llama")).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def put(path: Path, precision: Any = "fp32") -> Any:
    return put_on_gpu(path, str(DEVICE), precision, lambda _: None, None)  # type: ignore[arg-type]


def decoder(path: Path, precision: Any = "fp32") -> Decoder:
    found: Decoder = put(path, precision).decoder
    return found


def numbers(part: Any) -> list[Any]:
    """Return all tensors and other values of a decoder, in order."""
    if isinstance(part, torch.Tensor):
        return [part.dtype, part.shape, part.cpu().float().numpy().tobytes()]
    if isinstance(part, tuple):
        return [number for each in part for number in numbers(each)]
    if hasattr(part, "__dataclass_fields__"):
        return [number for name in part.__dataclass_fields__ for number in numbers(getattr(part, name))]
    return [part]


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("name", ["llama-tied-bias", "qwen3", "gemma3", "phi3"])
def test_the_decoder_is_the_one_that_was_tried(
    tmp_path: Path, name: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepcopy(make_shallow(name)).save_pretrained(tmp_path / "m")
    first = decoder(tmp_path / "m")
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(parts, "open_files", None)  # nobody asks transformers again
    assert numbers(decoder(tmp_path / "m")) == numbers(first)


@pytest.mark.usefixtures("untried")
def test_other_precisions_are_made_of_the_same_parts(
    directory: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = numbers(decoder(directory, "int8"))
    monkeypatch.setattr(parts, "open_files", None)
    assert decoder(directory, "fp32").precision == "fp32"
    assert numbers(decoder(directory, "int8")) == first
    assert len(list(kept.iterdir())) == 1


def test_greedy_equals_generate(directory: Path, kept: Path) -> None:
    asked = prompts("llama")[:2]
    expected = generated(make_shallow("llama"), asked, 4)
    for _ in range(2):
        engine = build_engine([put(directory)], 256, frozenset({STOP}), 1, 3, PREFIX, max_memory=1 << 25)
        assert collected(engine, asked, SamplingParams(4)) == expected
    assert kept.is_dir()


@pytest.mark.usefixtures("untried")
def test_a_gguf_file_has_such_parts_too(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.gguf", make("llama"), "Q8_0")
    first = numbers(decoder(path, "int8"))
    monkeypatch.setattr(parts, "open_files", None)
    assert numbers(decoder(path, "int8")) == first


def test_transformers_is_not_imported(directory: Path, kept: Path) -> None:
    decoder(directory)
    script = (
        "import sys\nfrom pathlib import Path\nfrom llmpar.models.load import import_libraries, load_model\n"
        "from llmpar.models.on_gpu import put_on_gpu\nimport_libraries()\n"
        f"put_on_gpu(Path(sys.argv[1]), {str(DEVICE)!r}, 'fp32', print, None)\n"
        f"if {DEVICE.type!r} == 'cuda': load_model(Path(sys.argv[1]), 'cuda:0', 'fp32')\n"
        "print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(directory)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.usefixtures("untried")
def test_what_is_damaged_is_found_out_again(directory: Path, kept: Path) -> None:
    first = numbers(decoder(directory))
    (plan,) = kept.iterdir()
    whole = plan.read_bytes()
    for content in (b"", whole[:100], whole[:-1], whole.replace(b"embed_tokens", b"embed_token5")):
        plan.write_bytes(content)
        assert numbers(decoder(directory)) == first
        assert plan.read_bytes() == whole


@pytest.mark.usefixtures("untried")
def test_other_vectors_are_found_out_anew(tmp_path: Path, directory: Path, kept: Path) -> None:
    first = decoder(directory)
    changed = deepcopy(make_shallow("llama"))
    with torch.no_grad():
        changed.model.norm.weight.mul_(2)
    changed.save_pretrained(directory)
    assert torch.equal(decoder(directory).final_norm, 2 * first.final_norm)
    assert len(list(kept.iterdir())) == 2


def test_experts_are_read_all_at_once(tmp_path: Path, kept: Path) -> None:
    deepcopy(make_shallow("mixtral")).save_pretrained(tmp_path / "m")
    assert put(tmp_path / "m") is None
    assert not kept.exists()
