"""Runs that are killed, and what the same command makes of it; the long version is tests/attack/kills.py."""

from __future__ import annotations

from support.attacks import attack


def test_after_kills_the_same_command_ends_as_if_undisturbed_and_repeats_no_work() -> None:
    table = attack("kills", "--kills", "8", "--segments", "80")
    counts = {label.strip(): int(number) for label, number in (line.rsplit(None, 1) for line in table.splitlines())}
    assert counts["kills"] >= 8
    assert counts["answers committed before a kill"] > 0, "nothing was at stake"
    assert counts["and ended as if undisturbed"] == counts["runs that went on after them"] > 0
    assert counts["and generated again"] == counts["files left beside an output"] == 0


def test_random_jobs_under_random_faults_end_well() -> None:
    assert "jobs" in attack("soak", "--minutes", "0.08")
