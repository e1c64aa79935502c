"""The command's part: all of it on a GPU, with the store and without, and once more from the store alone."""

from __future__ import annotations

from collections.abc import Callable

from harness.command import Run, Way, measure, report


def run_commands(
    model: str,
    device: str,
    count: int,
    max_new_tokens: int,
    rounds: int,
    trees: dict[str, str],
    is_meant: Callable[[str], bool],
    tell: Callable[[str], None],
) -> dict[tuple[str, str], list[Run]]:
    """Run the command over so many lines in each way, trees of llmpar's alternating; see `harness.command.measure`."""
    common = ["--model", model, "--device", device, "--max-new-tokens", str(max_new_tokens)]
    ways = [
        Way("no store", [*common, "--no-store"]),
        Way("store", [*common, "--store", "STORE"]),
        Way("from the store", [*common, "--store", "STORE"], again=True),
        Way("echo", ["--engine", "echo", "--no-store"]),
    ]
    ways = [way for way in ways if is_meant(way.name)]
    return measure(ways, trees, count, rounds, tell)


def report_commands(found: dict[tuple[str, str], list[Run]], model: str, count: int, max_new_tokens: int) -> str:
    return (
        f"{report(found)}\n\n`llmpar run` with {model}: {count:,} lines, at most {max_new_tokens} new tokens each. The "
        "start is what the same command takes for one line; lines and tokens a second are those after it."
    )
