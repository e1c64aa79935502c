"""The tables in `llmpar/help/platforms.md`, made of what `llmpar doctor` tells.

PYTHONPATH=tests python -m support.platforms_table
"""

from __future__ import annotations

from llmpar.health.platforms import GPUS, SYSTEMS


def tables() -> list[str]:
    """Return the rows of each table."""
    return [
        "\n".join(f"| {known.name} | {known.state} | {known.remark} |" for known in table.values())
        for table in (SYSTEMS, GPUS)
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
