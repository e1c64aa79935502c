"""The attack programs, as tests run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ATTACK = Path(__file__).parents[1] / "attack"


def attack(program: str, *arguments: str) -> str:
    """Run an attack in a process of its own, as it forks, and return what it prints."""
    command = [sys.executable, str(ATTACK / f"{program}.py"), *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout
