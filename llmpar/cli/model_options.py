"""The options that say which model answers, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from llmpar.answering.choice import MODELS, ModelChoice
from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.engine.precision_names import PrecisionChoice
from llmpar.models.names import Thinking

if TYPE_CHECKING:
    EngineName = str
    Resources = tuple[tuple[str, float], ...]
else:  # Typer takes its choices from a Literal, and these come from a table
    _ENGINE_NAMES = tuple(MODELS)
    EngineName = Literal[_ENGINE_NAMES]
    Resources = object  # Typer would take a tuple for several values

# The default of a setting stands in one place, where the setting means something.
_CHOICE = ModelChoice()


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model answers, and on what."""

    model: Annotated[
        str,
        option(
            "--model",
            "-m",
            help="A name (`llmpar models list`), directory, GGUF file or hub name.",
            panel="Model",
            role=roles.model,
        ),
    ] = _CHOICE.name
    engine: Annotated[
        EngineName,
        option("--engine", help="echo answers each piece with itself, without a model; endpoint follows from "
               "--endpoint.", panel="Model"),
    ] = _CHOICE.engine  # fmt: skip
    device: Annotated[
        str,
        option("--device", help="auto, cpu, cuda (all GPUs), cuda:1 or mps.", panel="Model", callback=values.device),
    ] = _CHOICE.device
    precision: Annotated[
        PrecisionChoice,
        option("--precision", help="Of arithmetic; auto loses nothing that the model file holds.", panel="Model"),
    ] = _CHOICE.precision
    threads: Annotated[
        int | None,
        option("--threads", "-j", help="Pieces run on N threads over one copy of the weights; on GPUs, on N each; with "
               "--endpoint, N requests at a time.",
               panel="Model", metavar="N|auto", parser=values.auto_count, show_default="auto"),
    ] = _CHOICE.threads  # fmt: skip
    batch_size: Annotated[
        int | None,
        option("--batch-size", help="Pieces that each thread runs at once.", panel="Model", metavar="N|auto",
               parser=values.auto_count, show_default="auto"),
    ] = _CHOICE.batch_size  # fmt: skip
    max_memory: Annotated[
        int | None,
        option("--max-memory", help="For texts and tokens on their way. Default: half of what is free.", panel="Model",
               metavar="SIZE", parser=values.size),
    ] = _CHOICE.max_memory  # fmt: skip
    tensor_parallel: Annotated[
        int,
        option("--tensor-parallel", help="Spread each layer over N devices, for a model that does not fit on one.",
               panel="Model", metavar="N", min=1, max=4096),
    ] = _CHOICE.tensor_parallel  # fmt: skip
    thinking: Annotated[
        Thinking | None,
        option("--thinking", help="Set the switch for thinking in the model's chat template. Default: off, mostly.",
               panel="Model"),
    ] = _CHOICE.thinking  # fmt: skip
    offline: Annotated[
        bool, option("--offline", help="Open no socket to other machines; fetch nothing.", panel="Model")
    ] = _CHOICE.offline
    endpoint: Annotated[
        list[str] | None,
        option("--endpoint", help="Let a server answer that speaks OpenAI's protocol: its URL, or a file that lists "
               "some; several times for several.", panel="Servers", metavar="URL|FILE", role=roles.servers),
    ] = None  # fmt: skip
    endpoint_model: Annotated[
        str | None,
        option("--endpoint-model", help="What the server calls the model. Default: the only one that it has.",
               panel="Servers", metavar="NAME"),
    ] = _CHOICE.endpoint_model  # fmt: skip
    api_key_file: Annotated[
        Path | None,
        option("--api-key-file", help="The server's key stands in this file. Default: in OPENAI_API_KEY, if at all.",
               panel="Servers", metavar="FILE", role=roles.read),
    ] = _CHOICE.api_key_file  # fmt: skip
    context_length: Annotated[
        int | None,
        option("--context-length", help="Tokens that the server has room for. Default: what it tells.",
               panel="Servers", metavar="N", min=1),
    ] = _CHOICE.context_length  # fmt: skip
    max_tokens_total: Annotated[
        int | None,
        option("--max-tokens-total", help="End the run before it has taken more tokens of servers (exit 124).",
               panel="Servers", metavar="N", min=1),
    ] = _CHOICE.max_tokens_total  # fmt: skip
    ray: Annotated[
        str | None,
        option("--ray", help="Let the nodes of a Ray cluster answer: its address, or auto for the one that runs here.",
               panel="Cluster", metavar="auto|ADDRESS"),
    ] = _CHOICE.ray  # fmt: skip
    ray_workers: Annotated[
        int | None,
        option("--ray-workers", help="Processes there. Default: one on each GPU, or else on each node.",
               panel="Cluster", metavar="N", min=1),
    ] = _CHOICE.ray_workers  # fmt: skip
    ray_resources: Annotated[
        Resources,
        option("--ray-resources", help="What each of them takes: cpu=8,gpu=1. Default: what suits the cluster.",
               panel="Cluster", metavar="NAME=N,…", parser=values.resources, show_default=False),
    ] = _CHOICE.ray_resources  # fmt: skip
    yes: Annotated[bool, option("--yes", help="Fetch a model without a question.", panel="Model")] = False
