"""What options must not be: numbers out of their ranges, and options that exclude each other."""

from __future__ import annotations

import sys

from llmpar.cli.options import JobOptions, RunOptions
from llmpar.cli.output_options import MergeOptions, OutputOptions
from llmpar.errors import UsageError


def check_options(options: RunOptions) -> None:
    """Raise UsageError when a number is out of its range (not a number, NaN, is out of every one) or options clash."""
    sampling = options.sampling
    ranges = (
        ("--temperature", sampling.temperature, 0, 100),
        ("--top-p", sampling.top_p, 0, 1),
        ("--max-repeats", sampling.max_repeats, 0, sys.maxsize),
        ("--retries", options.failures.retries, 0, 1000),
        ("--max-new-tokens", _or_1(sampling.max_new_tokens), 1, sys.maxsize),
        ("--max-thinking-tokens", _or_1(sampling.max_thinking_tokens), 1, sys.maxsize),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise UsageError(
                f"{name} {value}: must be {least} or more" + ("" if most == sys.maxsize else f", up to {most}")
            )
    if options.failures.append and not (options.failures.log or options.failures.errors):
        raise UsageError("--append needs --log or --errors: it says that these are added to")
    _check_output(options.output)
    if isinstance(options, JobOptions):
        _check_merge(options.merge, options.output)
    store = options.store
    if store.shard:
        _check_shard(options)
    if store.no_store and (store.refresh or store.retry_failed):
        raise UsageError(f"--no-store and {'--refresh' if store.refresh else '--retry-failed'} exclude each other")


def _check_shard(options: RunOptions) -> None:
    output, store = options.output, options.store
    for name, place in (("-o", output.output), ("--output-dir", output.output_dir), ("--in-place", output.in_place)):
        if place is not None:
            raise UsageError(
                f"{name} and --shard exclude each other: a part of the pieces makes no document; merge the stores, and "
                "run without --shard"
            )
    if store.no_store or (options.model.engine == "echo" and not store.store):
        reason = "--no-store keeps none" if store.no_store else "--engine echo keeps none without --store FILE"
        raise UsageError(f"--shard: its answers are only in the store, and {reason}")


def _or_1(limit: int | None) -> int:
    return 1 if limit is None else limit


def _check_output(output: OutputOptions) -> None:
    for name, path in (("-o", output.output), ("--output-dir", output.output_dir)):
        if str(path) == "-":
            raise UsageError(f"{name} -: name a file or directory; stdout needs no option")
    places = [
        name
        for name, place in (("-o", output.output), ("--output-dir", output.output_dir), ("--in-place", output.in_place))
        if place is not None
    ]
    if len(places) > 1:
        raise UsageError(f"{' and '.join(places)} exclude each other")
    if output.dry_run and output.show_prompt:
        raise UsageError("--dry-run and --show-prompt exclude each other")
    if output.copy_others and not output.output_dir:
        raise UsageError("--copy-others needs --output-dir: what is no document is copied there")
    if output.partial and not output.output:
        raise UsageError("--partial needs -o: other outputs are published document by document, or as a stream")


def _check_merge(merge: MergeOptions, output: OutputOptions) -> None:
    if merge.sample is not None:
        if output.in_place is not None or output.output_dir is not None:
            raise UsageError("--sample shows pieces and answers: they go to stdout, or to -o FILE")
        if merge.merge is not None or merge.reduce is not None or merge.interleave:
            raise UsageError("--sample shows pieces and answers, and makes nothing of them; leave --merge out")
    if merge.reduce is not None:
        if merge.merge not in (None, "reduce"):
            raise UsageError(f"--reduce and --merge {merge.merge} exclude each other")
        if not merge.reduce.strip():
            raise UsageError("--reduce: is empty; say what to make of the answers")
    if merge.interleave and merge.merge not in (None, "document", "lines"):
        raise UsageError(f"--interleave and --merge {merge.merge} exclude each other; records hold the source anyway")
    if output.in_place is not None and (merge.merge not in (None, "document") or merge.reduce is not None):
        raise UsageError("--in-place needs --merge document: what is replaced must stay a document")
