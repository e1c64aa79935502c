"""Cycles of the products' inner loops on processors that are not here, as LLVM's scheduling models (llvm-mca) see them.

    python tests/benchmarks/cycles.py --mca llvm-mca-19 --markdown cycles.md

Each processor's kernel is compiled in a process of its own. There is a line for the loop of each shape of a product.
llvm-mca knows no caches: the figures are what the loop takes with its weights and inputs at hand. An ARM
kernel is compiled by an emulated Python (see `tests/arm.sh`), which leaves its assembly in files:

    CPU=neoverse-v2 tests/arm.sh tests/benchmarks/cycles.py --print int8 > int8.s
    python tests/benchmarks/cycles.py --mca llvm-mca-19 --only neoverse-v2 --assembly int8.s int4.s
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_HERE = "x86_64-unknown-linux-gnu"
_PRECISIONS = ("int8", "int4")


@dataclass(frozen=True)
class Processor:
    """One to compile for.

    Args:
        name: as LLVM calls it.
        features: of it, by LLVM's names.
        most: products of bytes that its units can add up in a cycle.
        because: why no more.
    """

    name: str
    features: str
    most: int
    because: str
    triple: str = _HERE


PROCESSORS = (
    Processor("alderlake", "avx2,avxvnni,fma,f16c", 64, "two VPDPBUSD of 32 bytes"),
    Processor("znver3", "avx2,fma,f16c", 64, "two VPMADDUBSW of 32 bytes, before they are added"),
    Processor("neoverse-v2", "neon,dotprod,i8mm,bf16,fp-armv8", 128, "four SMMLA, 2 · 2 · 8", "aarch64-linux-gnu"),
)
# Instructions that multiply bytes, by how their mnemonics begin.
_X86 = ("vpdpbusd", "vpmaddubsw")
_ARM = {"sdot": 16, "smmla": 32}  # how many they multiply
_WIDTH = {"x": 16, "y": 32, "z": 64}


def assembly(processor: Processor, precision: str) -> str:
    """Return the assembly of a product's kernel, compiled in a process of its own."""
    names = ",".join(f"+{name}" for name in processor.features.split(","))
    environment = {**os.environ, "NUMBA_CPU_NAME": processor.name, "NUMBA_CPU_FEATURES": names}
    command = [sys.executable, __file__, "--print", precision]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def compiled(precision: str) -> str:
    """Return the assembly of a product's kernel as this process compiles it."""
    from numba import njit, types

    from llmpar.engine.cpu import kernels
    from llmpar.engine.cpu.compiled import OPTIONS
    from llmpar.engine.cpu.dots import ByteWords, Nibbles

    def array(kind: object, dimensions: int) -> object:
        return types.Array(kind, dimensions, "C")

    none, f32, i = types.none, types.float32, types.intp
    bytes_ = [array(types.int8, 4), array(f32, 3), none, array(types.int32, 3), none, none, f32]
    nibbles = [array(types.uint8, 4), array(types.uint16, 3), none, none, none, none, f32]
    weights, inputs = {
        "int8": (types.NamedTuple(bytes_, ByteWords), types.uint8),
        "int4": (types.NamedTuple(nibbles, Nibbles), types.int8),
    }[precision]
    product = njit(**OPTIONS)(kernels._panels.py_func)
    product.compile((i, i, array(inputs, 2), array(f32, 2), weights, array(f32, 2), i, i, types.boolean))
    found: str = next(iter(product.inspect_asm().values()))
    return found


def inner_loops(text: str, comment: str) -> list[list[str]]:
    """Return the instructions of each block with dot products that jumps to its own beginning, fewest products first.

    There is one for each shape of a product (see `instructions.InstructionSet.shapes`). Where the turns of a loop were
    written one after the other, that block is returned which has more products than any loop, if there is one.
    """
    blocks: list[list[str]] = []
    loops: list[list[str]] = []
    name = ""
    for line in text.splitlines():
        if label := re.match(r"^(\.\w+):", line):
            name = label[1]
            blocks.append([])
        elif name and re.match(r"^\s+[a-z{]", line):
            blocks[-1].append(line.split(comment)[0].rstrip())
            if re.search(rf"\s{re.escape(name)}$", blocks[-1][-1]):
                loops.append(blocks.pop())
                name = ""
    most = max(map(products, loops), default=0)
    loops += [max(blocks, key=products)] if any(products(block) > most for block in blocks) else []
    return sorted((loop for loop in loops if products(loop)), key=products)


def products(lines: list[str]) -> int:
    """Return how many bytes instructions multiply."""
    return sum(map(_multiplied, lines))


def _multiplied(line: str) -> int:
    """Return how many bytes an instruction multiplies."""
    name, _, operands = line.strip().removeprefix("{vex}").strip().partition("\t")
    if name not in _X86:
        return _ARM.get(name, 0)
    return _WIDTH[re.findall(r"%([xyz])mm", operands)[-1]]


def cycles(mca: str, processor: Processor, lines: list[str]) -> float:
    """Return the cycles of one turn of a loop in a steady state."""
    command = [mca, f"-mtriple={processor.triple}", f"-mcpu={processor.name}", "-iterations=1000", "-json"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]
    return found["TotalCycles"] / found["Iterations"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mca", default="llvm-mca", help="the program, of LLVM 16 or later")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--only", help="names of processors, with commas")
    parser.add_argument("--print", choices=_PRECISIONS, help="print the assembly for this processor, and end")
    parser.add_argument("--assembly", nargs=2, type=Path, help="of int8 and int4, where it is not to be compiled here")
    arguments = parser.parse_args()
    if arguments.print:
        print(compiled(arguments.print))
        return
    columns = ("processor", "weights", "products", "cycles", "instructions", "products a cycle", "at most")
    rows = ["| " + " | ".join(columns) + " |", "|---|---|---:|---:|---:|---:|---|"]
    for processor in PROCESSORS:
        if arguments.only and processor.name not in arguments.only.split(","):
            continue
        if processor.triple != _HERE and not arguments.assembly:
            continue
        for index, precision in enumerate(_PRECISIONS):
            given = arguments.assembly and arguments.assembly[index].read_text()
            text = given or assembly(processor, precision)
            for loop in inner_loops(text, "#" if processor.triple == _HERE else "//"):
                taken, made = cycles(arguments.mca, processor, loop), products(loop)
                rows.append(
                    f"| {processor.name} | {precision} | {made} | {taken:.1f} | {len(loop)} | {made / taken:.1f} | "
                    f"{processor.most}: {processor.because} |"
                )
                print(rows[-1], flush=True)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
