"""What `--dry-run` foretells against what the run then takes: tokens read, tokens written, seconds.

    python tests/benchmarks/forecasts.py [--only article,story,messages] [--characters N] [--messages 200]
    python tests/benchmarks/forecasts.py --only article,translation --source FILE

The state is empty at first. "After a trial" is a forecast after `--sample`, of the pieces that are left. "After a
run" is one of all pieces, after the whole job was done once: with `--refresh`, no answer is taken from the store. Each
forecast is followed by the run that it is about. Seconds are those of the run's last line. The last columns are about
the time left that the run itself told after a fifth of its time, and at worst until nineteen twentieths: how far the
whole time that followed from it was off, as a share of the true one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.machine import describe_machine
from harness.table import markdown_table
from messages import support_messages

_ROOT = Path(__file__).parents[2]
_SAMPLES = _ROOT / "sample_data"
_SUMMARY = ["summarize", "--length", "short"]
_SORT = ["run", "Sort this message into billing, delivery, defect, account or praise. {text}", "--unit", "line"]
_SORT += ["--choices", "billing,delivery,defect,account,praise"]
_TRANSLATE = ["translate", "--to", "German"]
_REPLY = ["run", "Write a short reply: {text}", "--unit", "line", "--max-new-tokens", "64"]
JOBS = {
    "article": ("article.txt", _SUMMARY),
    "story": ("story.txt", _SUMMARY),
    "translation": ("article.txt", _TRANSLATE),
    "messages, sorted": ("", _SORT),
    "messages, answered": ("", _REPLY),
}
_DONE = re.compile(r"([\d,]+) tokens in, ([\d,]+) out, (?:(\d+) h )?(?:(\d+) min )?(?:([\d.]+) s)?")
_TOLD = {"read": r"tokens to read +([\d,]+)", "written": r"tokens to write +about ([\d,]+)"}
_TIME = re.compile(r"\ntime +about (?:(\d+) h ?)?(?:(\d+) min ?)?(?:([\d.]+) s)?")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="jobs by a part of their name")
    parser.add_argument("--characters", type=int, help="how much of each text is read, to the end of a paragraph")
    parser.add_argument("--source", type=Path, help="a text in the place of those that summaries and translations read")
    parser.add_argument("--messages", type=int, default=200, help="how many")
    parser.add_argument("--sample", type=int, default=16, help="pieces of a trial")
    parser.add_argument("--state", choices=("trial", "run", "both"), default="both")
    given = parser.parse_args()
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    rows = []
    for name, (source, command) in JOBS.items():
        if given.only and not any(word in name for word in given.only):
            continue
        with tempfile.TemporaryDirectory() as directory:
            text = Path(directory, "text.txt")
            path = given.source or _SAMPLES / source if source else None
            text.write_text(_text(path, given.characters, given.messages), encoding="utf-8")
            rows += _measured(name, [*command, str(text)], Path(directory), given.state, given.sample)
    figures = [cell for name in ("read", "written", "seconds") for cell in (name, "true", "ratio")]
    print(markdown_table(["job", "forecast", *figures, "left, after a fifth", "at worst", "load"], rows))


def _text(source: Path | None, most: int | None, count: int) -> str:
    """Return the text of a file, or so many messages where there is none."""
    if not source:
        return "".join(f"{message}\n" for message, _ in support_messages(count, 0))
    whole = source.read_text(encoding="utf-8")
    return whole if most is None or most >= len(whole) else whole[: whole.rindex("\n\n", 0, most)] + "\n"


def _measured(name: str, command: list[str], directory: Path, state: str, pieces: int) -> list[list[str]]:
    """Return the rows of a job: what was foretold, what came, and their ratio, after a trial and after a run."""
    rows = []
    if state != "run":
        _run([*command, "--sample", str(pieces)], directory)
        rows.append(_row(name, "after a trial", command, directory))
    if state == "run":
        _run(command, directory)
    if state != "trial":
        rows.append(_row(name, "after a run", [*command, "--refresh"], directory))
    return rows


def _row(name: str, when: str, command: list[str], directory: Path) -> list[str]:
    told = _told(_run([*command, "--dry-run"], directory)[0])
    messages = _run([*command, "--progress", "json"], directory)[1]
    found = _DONE.search(messages)
    if found is None:
        raise SystemExit("the run's last line does not tell tokens and seconds")
    came = [*map(_number, found.groups()[:2]), _seconds(found.groups()[2:])]
    cells = [f"{figure:,.0f}" for figure in told], [f"{figure:,.0f}" for figure in came]
    ratios = [f"{one / other:.2f}" if other else "-" for one, other in zip(told, came, strict=True)]
    row = [cell for three in zip(*cells, ratios, strict=True) for cell in three] + _left(messages, came[2])
    print(name, when, *row, flush=True)
    return [name, when, *row, f"{os.getloadavg()[0]:.1f}"]


def _told(forecast: str) -> list[float]:
    """Return tokens read and written, and seconds; not a number where nothing is told."""
    found = [re.search(pattern, forecast) for pattern in _TOLD.values()]
    time = _TIME.search(forecast)
    return [_number(one[1]) if one else float("nan") for one in found] + [
        _seconds(time.groups()) if time and any(time.groups()) else float("nan")
    ]


def _left(messages: str, total: float) -> list[str]:
    """Return by what share of the total the time left was off that was told after a fifth, and at worst after that."""
    records = [json.loads(line) for line in messages.splitlines() if line.startswith("{")]
    errors = [
        abs(record["seconds"] + record["seconds_left"] - total) / total
        for record in records
        if 0.2 * total <= record["seconds"] <= 0.95 * total and record["seconds_left"] is not None
    ]
    return [f"{errors[0]:.2f}", f"{max(errors):.2f}"] if errors else ["-", "-"]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds = (float(part or 0) for part in parts)
    return hours * 3600 + minutes * 60 + seconds


def _run(command: list[str], directory: Path) -> tuple[str, str]:
    """Return what a command prints, and its messages; its store and its earlier runs are this job's own."""
    environment = os.environ | {"LLMPAR_STATE": str(directory / "state"), "PYTHONPATH": str(_ROOT)}
    process = subprocess.run(
        [sys.executable, "-m", "llmpar", *command], env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {process.stderr}")
    return process.stdout, process.stderr


if __name__ == "__main__":
    main()
