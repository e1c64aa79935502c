"""Under an emulated ARM processor (`tests/arm.sh`): 64 answers, which must be those of every processor."""

from __future__ import annotations

import time

from support.pinned_answers import ANSWERS, digest

from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.vector import HOST

print("features:", ", ".join(name for name, has in HOST.items() if has), flush=True)
print("own dot products:", ", ".join(own.dot.name for own in HERE.dots if HOST.get(own.feature)), flush=True)
for name, expected in ANSWERS.items():
    begun = time.monotonic()
    found = digest(name, patience=3600)
    print(f"{name}: {found} after {time.monotonic() - begun:.0f} s", flush=True)
    assert found == expected, f"{name}: not the answers of other processors"
