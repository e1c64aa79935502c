"""Where the project and its sample texts are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


# Documents: requests are for llmpar batch alone, and no text; a table needs to be told its column.
SAMPLES = sorted(
    path for path in (ROOT / "sample_data").iterdir() if path.name != "requests.jsonl" and path.suffix != ".csv"
)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
