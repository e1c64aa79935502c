"""The tensor part: one model on one GPU, and divided over several, with weights drawn on each GPU and in no file.

All ranks draw the same numbers, matrix by matrix, and each keeps its share. So the model is the same however many there
are, and answers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.table import markdown_table

from device.shapes import draw_weights, make_config

if TYPE_CHECKING:
    from device.contender import Answer, Spec
    from device.trial import Trial
    from llmpar.engine.cuda.decoder import Decoder, Layer
    from llmpar.engine.cuda.model import CudaModel
    from llmpar.engine.cuda.share import Share
    from llmpar.engine.ranks.group import Place

HEADER = [
    "shape",
    "GPUs",
    "requests",
    "useful tokens/s",
    "range",
    "×",
    "answers alike",
    "first tokens alike",
    "ready s",
    "memory GB",
]


@contextmanager
def open_tensor(spec: Spec) -> Iterator[tuple[Answer, str]]:
    """Open llmpar's engine over one GPU, or several. Options: size, how many; `model` is a shape."""
    from device.contender import answering
    from llmpar.engine.build import build_engine
    from llmpar.engine.model import EngineModel
    from llmpar.engine.ranks.group import Place
    from llmpar.engine.ranks.model import Shards
    from llmpar.engine.ranks.ranks import Ranks

    size, remarks = spec.options["size"], list[str]()
    model: EngineModel
    if size == 1:
        model = _draw(spec.model, spec.device, Place(0, 1, ""))
    else:
        ranks = Ranks(size)
        mine = ranks.call(partial(_draw, spec.model, spec.device, ranks.place), partial(_draw, spec.model, spec.device))
        model = Shards(ranks, mine, shares_tokens=True)
    prefix_ids = spec.workload(0).prefix_ids
    with build_engine([model], 1024, frozenset(), None, spec.options.get("batch_size"), prefix_ids,
                      max_memory=spec.options.get("max_memory"), notify=remarks.append) as engine:  # fmt: skip
        yield answering(engine), "; ".join(remarks)


def _draw(shape: str, kind: str, place: Place) -> CudaModel:
    """Return a rank's share of a model of a shape, drawn on its device."""
    from llmpar.engine.cuda.model import CudaModel
    from llmpar.engine.cuda.order import keep_order
    from llmpar.engine.cuda.share import Share
    from llmpar.engine.ranks.group import join

    config = make_config(shape)
    device = kind if kind == "cpu" else f"{kind}:{place.rank}"
    if kind != "cpu":
        keep_order()
    if place.size == 1:
        return CudaModel(draw_decoder(config, device))
    join(place, device)
    return CudaModel(draw_decoder(config, device, Share(place.rank, place.size, config.vocab_size)))


def draw_decoder(config: Any, device: str, share: Share | None = None) -> Decoder:
    """Return a model of a configuration, or a share of it; its sizes divide, and it has as many heads for keys."""
    import torch

    from llmpar.engine.cuda.decoder import Decoder
    from llmpar.engine.cuda.linear import FloatLinear

    size, rank = (share.size, share.rank) if share else (1, 0)

    def part(name: str, weight: Any) -> Any:
        kind = name.split(".")[-2]
        if kind.endswith("norm"):
            return weight.float()
        length = weight.shape[axis := int(kind in ("o_proj", "down_proj"))] // size
        return weight.narrow(axis, rank * length, length).clone()

    found: dict[str, Any] = {}
    layers: list[Layer] = []
    with torch.inference_mode():
        drawn = draw_weights(config, 0, device)
        # Layer by layer, so that nothing is there twice but the matrices of one.
        for place, weights in groupby(drawn, lambda item: item[0].split(".layers.")[-1].split(".")[0]):
            parts = {name: part(name, weight) for name, weight in weights}
            if place.isdigit():
                layers.append(_layer({name.split(f"layers.{place}.")[1]: one for name, one in parts.items()}, config))
            else:
                found |= parts
    theta = float(config.rope_parameters["rope_theta"])
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    embedding = found["model.embed_tokens.weight"]
    return Decoder(
        layers=tuple(layers),
        ropes=((theta**-exponents, 1.0),),
        embedding=embedding,
        embedding_scale=1.0,
        final_norm=found["model.norm.weight"],
        head=FloatLinear(found.get("lm_head.weight", embedding), None),
        context_length=config.max_position_embeddings,
        softcap=0.0,
        epsilon=config.rms_norm_eps,
        activation="silu",
        mlp_size=config.intermediate_size // size,
        num_heads=config.num_attention_heads // size,
        num_kv_heads=config.num_key_value_heads // size,
        head_dim=config.head_dim,
        precision="bf16",
        share=share,
    )


def _layer(weights: dict[str, Any], config: Any) -> Layer:
    import torch

    from llmpar.engine.cuda.decoder import Layer
    from llmpar.engine.cuda.linear import FloatLinear
    from llmpar.engine.generic.attention import Variant

    def linear(*names: str) -> FloatLinear:
        return FloatLinear(torch.cat([weights.pop(f"{name}.weight") for name in names]), None)

    norms = [weights[name] for name in ("self_attn.q_norm.weight", "self_attn.k_norm.weight") if name in weights]
    return Layer(
        attention_norm=weights["input_layernorm.weight"],
        qkv=linear("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        head_norms=torch.stack(norms) if norms else None,
        output=linear("self_attn.o_proj"),
        after_attention_norm=None,
        mlp_norm=weights["post_attention_layernorm.weight"],
        gate_up=linear("mlp.gate_proj", "mlp.up_proj"),
        down=linear("mlp.down_proj"),
        after_mlp_norm=None,
        rope=0,
        variant=Variant(scaling=config.head_dim**-0.5, window=None, softcap=None),
    )


@dataclass(frozen=True)
class TensorEntry:
    """What a shape did on so many GPUs."""

    shape: str
    size: int
    trial: Trial

    @property
    def rate(self) -> float:
        return median(job.rate for job in self.trial.jobs[1:])


def run_tensor(
    shapes: list[str],
    sizes: list[int],
    device: str,
    requests: int,
    repeats: int,
    time_limit: float,
    options: dict[str, Any],
    tell: Callable[[str], None],
) -> list[TensorEntry]:
    """Give each shape its trial on each number of GPUs; one that fails is told, and left out."""
    from device.contender import Spec
    from device.trial import run_trial

    entries = []
    for shape in shapes:
        for size in sizes:
            spec = Spec(
                engine="tensor",
                model=shape,
                device=device,
                precision="bf16",
                vocabulary=make_config(shape).vocab_size,
                jobs=[requests] * (1 + repeats),
                options={"size": size, **options},
                with_outputs=True,
            )
            alone = {"CUDA_VISIBLE_DEVICES": "0"} if size == 1 else None
            trial = run_trial(spec, time_limit, alone)
            if trial.error:
                tell(f"{shape} on {size}: {'FAILED' if len(trial.jobs) < 2 else 'in the end'}: {trial.error}")
            if len(trial.jobs) > 1:
                entries.append(TensorEntry(shape, size, trial))
                rates = ", ".join(f"{job.rate:,.0f}" for job in trial.jobs)
                took = trial.since_start(trial.jobs[-1].last_at)
                tell(f"{shape} on {size}: {rates} tokens/s; the trial took {took:.0f} s; {trial.settings}")
    return entries


def report_tensor(entries: list[TensorEntry]) -> str:
    """Return a table, each number of GPUs beside the first of its shape."""
    if not entries:
        return "every trial failed"
    first: dict[str, TensorEntry] = {}
    rows = []
    for entry in entries:
        base, job = first.setdefault(entry.shape, entry), entry.trial.jobs[-1]
        rates = [one.rate for one in entry.trial.jobs[1:]]
        pairs = list(zip(job.outputs or [], base.trial.jobs[len(entry.trial.jobs) - 1].outputs or [], strict=False))
        rows.append(
            [
                entry.shape,
                str(entry.size),
                f"{job.requests:,}",
                f"{entry.rate:,.0f}",
                f"{min(rates):,.0f}–{max(rates):,.0f}",
                f"{entry.rate / base.rate:.2f}",
                f"{sum(a == b for a, b in pairs)} of {len(pairs)}",
                f"{sum(a[:1] == b[:1] for a, b in pairs)}",
                f"{entry.trial.load_seconds:.0f}",
                f"{entry.trial.memory / 1e9:.0f}",
            ]
        )
    legend = (
        "bf16, the same random weights on one GPU and divided over several. Useful tokens/s: of jobs after one as "
        "large, the median; ×: times the first row of its shape. Alike: the last job's answers beside that row's. "
        "Memory: on all GPUs, what is kept for later included."
    )
    return f"{markdown_table(HEADER, rows)}\n\n{legend}"
