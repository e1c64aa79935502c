"""Inputs that are longer than what may be held, in a pipe; `attack/stream.py` does the same with ten gigabytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attack.stream import lines, stream, text, unbroken


@pytest.mark.parametrize(
    ("name", "source", "unit", "said"),
    [
        ("equal lines", lines(50_000), "line", "50,000 pieces, 49,999 repeated"),
        ("without a space", unbroken(1_000_000), "sentence", "16 pieces"),
        ("text", text(8_000_000), "paragraph", "pieces"),
    ],
    ids=["lines", "unbroken", "text"],
)
def test_a_long_stream_comes_back(
    name: str, source: Iterator[bytes], unit: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stream(name, source, unit), capsys.readouterr().out
    assert said.replace(" tokens out", " out") in capsys.readouterr().out
