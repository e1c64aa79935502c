"""Record the terminal that README shows, as .github/terminal.svg: python tests/record_terminal.py (a few minutes).

It runs the commands below with the default model and a store of its own, so that the second run shows what is kept.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
SVG = ROOT / ".github" / "terminal.svg"
WIDTH = 110
_SORT = (
    "head -40 sample_data/messages.txt | llmpar run 'Sort this message of a customer. {text}' -u line \\\n"
    "    --choices billing,delivery,defect,account,praise"
)
COMMANDS = (
    "head -2 sample_data/messages.txt",
    f"{_SORT} | sort | uniq -c",
    f"{_SORT} -o sorted.txt",
    "llmpar ask --top 3 'How soon is a deposit on a bank card free again?' sample_data/handbook.md",
    f"{_SORT} --dry-run".replace("head -40", "cat"),
)


def record() -> str:
    """Run the commands, and return what a terminal showed, as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as place:
        program = Path(place, "llmpar")
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmpar "$@"\n')
        program.chmod(0o700)
        Path(place, "sample_data").symlink_to(ROOT / "sample_data")
        environment = {
            **os.environ,
            "PATH": f"{place}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "LLMPAR_STORE": str(Path(place, "store.sqlite")),
        }
        for command in COMMANDS:
            console.print(Text("$ ", "bold green") + Text(command, "bold"))
            done = subprocess.run(
                ["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, check=True
            )
            for shown, style in ((done.stdout, ""), (done.stderr, "dim")):
                if shown:
                    console.print(Text(shown.rstrip("\n"), style))
    svg = console.export_svg(title="llmpar")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # whoever looks at it fetches nothing else


if __name__ == "__main__":
    SVG.write_text(record(), "utf-8")
