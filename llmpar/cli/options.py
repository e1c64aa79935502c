"""The options that commands share, as frozen dataclasses; `signature` spreads them over a command's signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from llmpar.answering.attempts import Overflow, Policy
from llmpar.answering.choice import MODELS, ModelChoice
from llmpar.cli import roles, values
from llmpar.cli.roles import Role, with_role
from llmpar.documents.columns import COLUMNS
from llmpar.documents.document import DEFAULT_ON_ERROR, Merge, OnError, Unit
from llmpar.documents.encodings import Encodings
from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import DEFAULT_READING, Reading
from llmpar.documents.register import Register
from llmpar.engine.precision_names import PrecisionChoice
from llmpar.jobs.sharding import Shard
from llmpar.models.names import Thinking
from llmpar.tasks.checks import CHECKS
from llmpar.tasks.question import Sampling

if TYPE_CHECKING:
    FormatName = str
    EngineName = str
    Resources = tuple[tuple[str, float], ...]
else:  # Typer takes its choices from a Literal, and these come from tables
    _FORMAT_NAMES, _ENGINE_NAMES = ("auto", *FORMATS), tuple(MODELS)
    FormatName, EngineName = Literal[_FORMAT_NAMES], Literal[_ENGINE_NAMES]
    Resources = object  # Typer would take a tuple for several values

_S = TypeVar("_S")

# Whatever is said of a setting, its default stands in one place, where the setting means something.
_CHOICE, _SAMPLING, _POLICY = ModelChoice(), Sampling(), Policy()


def option(*names: str, help: str, panel: str, role: Role | None = None, **more: Any) -> Any:  # noqa: A002 (Typer's)
    """Return a Typer option under a heading of the help text; one that takes a path needs a role."""
    shows = more.pop("show_default", True)
    return with_role(typer.Option(*names, help=help, rich_help_panel=panel, show_default=shows, **more), role)


def settings_of(kind: Callable[..., _S], *groups: Any, **others: object) -> _S:
    """Return settings made of the options that bear their names; a setting that is no option keeps its default.

    Args:
        kind: a dataclass of settings.
        groups: dataclasses of options.
        others: settings whose options have another name.
    """
    given = {member.name: getattr(group, member.name) for group in groups for member in fields(group)} | others
    return kind(**{member.name: given[member.name] for member in fields(kind) if member.name in given})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is read, and into what it is split."""

    unit: Annotated[
        Unit | None,
        option("--unit", "-u", help="What a piece is. Default: what suits the task.", panel="Input"),
    ] = None
    language: Annotated[
        str,
        option("--language", help="Language of the text, for its sentences: german, french, …", panel="Input"),
    ] = DEFAULT_READING.language
    input_format: Annotated[
        FormatName,
        option("--input-format", help="How the text is marked up; auto goes by the file's name.", panel="Input"),
    ] = DEFAULT_READING.format
    format_options: FormatOptions = DEFAULT_READING.options
    marks: Annotated[
        bool | None,
        option("--marks/--no-marks", help="Markup and placeholders inside a piece become numbered marks that answers "
               "must keep. Default: where sentences or lines are answered in their places, and for translate.",
               panel="Input"),
    ] = None  # fmt: skip
    include: Annotated[
        list[str] | None,
        option("--include", help="Of folders, take the files that match; several times for several.", panel="Input",
               metavar="PATTERN"),
    ] = None  # fmt: skip
    exclude: Annotated[
        list[str] | None,
        option("--exclude", help="Of folders, leave out the files that match.", panel="Input", metavar="PATTERN"),
    ] = None
    gitignore: Annotated[
        bool, option("--gitignore", help="Of folders, leave out what .gitignore files leave out.", panel="Input")
    ] = False
    encoding_errors: Annotated[
        Literal["strict", "surrogateescape"],
        option("--encoding-errors", help="Refuse bytes that are no text, or carry them through.", panel="Input"),
    ] = DEFAULT_READING.errors

    encoding: Annotated[
        str,
        option("--encoding", help="Of inputs without a byte order mark: utf-8, latin-1, …; auto guesses.",
               panel="Input", metavar="NAME|auto"),
    ] = DEFAULT_READING.encodings.input  # fmt: skip
    output_encoding: Annotated[
        str | None,
        option("--output-encoding", help="Of documents with answers in them. Default: the input's.", panel="Output",
               metavar="NAME"),
    ] = DEFAULT_READING.encodings.output  # fmt: skip

    def reading(self, unit: Unit) -> Reading:
        """Return how inputs are read, into pieces of this unit."""
        return Reading(
            unit,
            self.language,
            self.input_format,
            self.format_options,
            self.encoding_errors,
            encodings=Encodings(self.encoding, self.output_encoding),
        )


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


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How answers are drawn."""

    max_new_tokens: Annotated[
        int | None,
        option(
            "--max-new-tokens",
            help="Cut answers after so many tokens. Default: a limit that suits the task.",
            panel="Answers",
        ),
    ] = _SAMPLING.max_new_tokens
    max_thinking_tokens: Annotated[
        int | None,
        option("--max-thinking-tokens", help="Of thoughts before an answer, counted apart. Default: 4096.",
               panel="Answers"),
    ] = _SAMPLING.max_thinking_tokens  # fmt: skip
    temperature: Annotated[
        float,
        option("--temperature", help="0, or below 0.00001: the likeliest token each time.", panel="Answers"),
    ] = _SAMPLING.temperature
    top_p: Annotated[
        float,
        option("--top-p", help="Draw from the likeliest tokens with this share.", panel="Answers"),
    ] = _SAMPLING.top_p
    seed: Annotated[int, option("--seed", help="Equal seeds draw equal answers, for any -j.", panel="Answers")] = (
        _SAMPLING.seed
    )
    max_repeats: Annotated[
        int,
        option("--max-repeats", help="Stop what says the same more than N times in a row; 0: never.",
               panel="Answers", metavar="N"),
    ] = _SAMPLING.max_repeats  # fmt: skip


@dataclass(frozen=True, slots=True)
class FailureOptions:
    """Which answers will not do, and what becomes of their segments and of the run."""

    on_error: Annotated[
        OnError,
        option("--on-error", help="A piece that fails stays as it was, is marked or left out; or the run ends there.",
               panel="Failures"),
    ] = DEFAULT_ON_ERROR  # fmt: skip
    retries: Annotated[
        int, option("--retries", help="Further attempts at an answer that will not do.", panel="Failures", metavar="N")
    ] = _POLICY.retries
    check: Annotated[
        str,
        option("--check", help=f"What an answer must not be, besides what the task says: {', '.join(CHECKS)}; or none.",
               panel="Failures", metavar="NAMES", callback=values.checks, show_default=False),
    ] = ""  # fmt: skip
    overflow: Annotated[
        Overflow,
        option("--overflow", help="What does not fit the model is split where best, or fails.", panel="Failures"),
    ] = _POLICY.overflow
    timeout: Annotated[
        float | None,
        option("--timeout", help="For each answer: 90, 10m.", panel="Failures", metavar="TIME", parser=values.seconds),
    ] = _POLICY.timeout
    max_time: Annotated[
        float | None,
        option("--max-time", help="For the whole run, which then ends (exit 124).", panel="Failures", metavar="TIME",
               parser=values.seconds),
    ] = None  # fmt: skip
    errors: Annotated[
        Path | None, option("--errors", help="Record each piece that failed here, as JSONL.", panel="Failures",
                            role=roles.written)
    ] = None  # fmt: skip
    log: Annotated[
        Path | None, option("--log", help="Record each piece here, as JSONL.", panel="Failures", role=roles.written)
    ] = None
    append: Annotated[
        bool, option("--append", help="Add to --log and --errors, which else begin anew.", panel="Failures")
    ] = False


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Where answers are kept, so that no run computes what an earlier one did."""

    store: Annotated[
        Path | None,
        option("--store", help="Keep answers here. Default: see `llmpar store path`.", panel="Store", metavar="FILE",
               role=roles.store),
    ] = None  # fmt: skip
    no_store: Annotated[bool, option("--no-store", help="Keep and look up nothing.", panel="Store")] = False
    refresh: Annotated[bool, option("--refresh", help="Compute again what is kept, and replace it.", panel="Store")] = (
        _POLICY.refresh
    )
    retry_failed: Annotated[
        bool, option("--retry-failed", help="Try again what failed in an earlier run.", panel="Store")
    ] = _POLICY.retry_failed
    no_store_text: Annotated[
        bool, option("--no-store-text", help="Keep answers beside hashes, not texts and prompts.", panel="Store")
    ] = False
    store_size: Annotated[
        int,
        option("--store-size", help="When a run ends, forget what was least recently used beyond this (4GB).",
               panel="Store", metavar="SIZE", parser=values.size, show_default=False),
    ] = 4_000_000_000  # fmt: skip
    shard: Annotated[
        Shard | None,
        option("--shard", help="Answer the I-th of N parts of the pieces, into the store, and write nothing. Then "
               "merge the stores (`llmpar store merge`), and run without this.", panel="Store", metavar="I/N",
               parser=values.shard, show_default=False),
    ] = None  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where answers go, and what is shown."""

    output: Annotated[
        Path | None,
        option("--output", "-o", help="Write here instead of stdout; replaced whole, at the end.", panel="Output",
               role=roles.output),
    ] = None  # fmt: skip
    output_dir: Annotated[
        Path | None,
        option("--output-dir", help="Write each document here under its own name, in its folder's place.",
               panel="Output", role=roles.destination_directory),
    ] = None  # fmt: skip
    copy_others: Annotated[
        bool, option("--copy-others", help="With --output-dir, copy what is no document in folders.", panel="Output")
    ] = False
    in_place: Annotated[
        str | None,
        option("--in-place", help="Replace each input by its answer; =.bak keeps the old one as NAME.bak.",
               panel="Output", metavar="[=SUFFIX]"),
    ] = None  # fmt: skip
    partial: Annotated[
        Path | None,
        option("--partial", help="With -o: if the run ends early, leave its beginning here.", panel="Output",
               role=roles.replaced),
    ] = None  # fmt: skip
    wait: Annotated[
        float,
        option("--wait", help="How long to wait for another run that writes the same file.", panel="Output",
               metavar="TIME", parser=values.patience, show_default=False),
    ] = 0.0  # fmt: skip
    progress: Annotated[
        Literal["auto", "bar", "plain", "json", "none"],
        option("--progress", help="What stderr shows; auto: a bar, on a terminal, outside of pipes.", panel="Output"),
    ] = "auto"
    quiet: Annotated[bool, option("--quiet", "-q", help="No summary line.", panel="Output")] = False
    verbose: Annotated[bool, option("--verbose", "-v", help="Tell what was chosen.", panel="Output")] = False
    show_prompt: Annotated[
        int | None,
        option("--show-prompt", help="Print the first N prompts (3) as the model gets them, and ask nothing.",
               panel="Before the job", metavar="[=N]", parser=values.few),
    ] = None  # fmt: skip
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Tell how much there is to do, and how long it may take; load no weights.",
            panel="Before the job",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What is made of the answers."""

    merge: Annotated[
        Merge | None,
        option("--merge", help="The document with answers in it, a line each, records, a table (with a ' before cells "
               "that begin like formulas), or all reduced to one.",
               panel="Output", show_default=False),
    ] = None  # fmt: skip
    reduce: Annotated[
        str | None,
        option("--reduce", help="Ask this of the answers, as many as fit at a time, until one is left.",
               panel="Output", metavar="PROMPT"),
    ] = None  # fmt: skip
    interleave: Annotated[
        bool, option("--interleave", help="Put each answer below its source, for review.", panel="Output")
    ] = False
    columns: Annotated[
        str | None,
        option("--columns", help=f"With --merge csv or jsonl, these alone and in this order: {', '.join(COLUMNS)}.",
               panel="Output", metavar="NAMES", callback=values.columns),
    ] = None  # fmt: skip
    bom: Annotated[
        bool, option("--bom", help="Begin a table with a byte order mark, as some spreadsheets want.", panel="Output")
    ] = False
    sample: Annotated[
        int | None,
        option("--sample", help="Ask about N pieces only, spread over the input, and show them with their answers.",
               panel="Before the job", metavar="N", min=1, max=100_000),
    ] = None  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What every command shares that runs a model."""

    input: InputOptions = InputOptions()
    model: ModelOptions = ModelOptions()
    sampling: SamplingOptions = SamplingOptions()
    failures: FailureOptions = FailureOptions()
    store: StoreOptions = StoreOptions()
    output: OutputOptions = OutputOptions()
    register: Register = field(default_factory=Register)


@dataclass(frozen=True, slots=True)
class JobOptions(RunOptions):
    """What the commands share besides that answer documents piece by piece."""

    merge: MergeOptions = MergeOptions()
