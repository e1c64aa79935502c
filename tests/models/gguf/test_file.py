"""GGUF files: what they say, what of them is refused, and their parts."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.gguf_files import tiny_weights, write_gguf

from llmpar.errors import ModelUnavailable
from llmpar.models.gguf.file import open_file
from llmpar.models.gguf.header import Damaged, read_header
from llmpar.models.gguf.parts import parts_of


def header(*fields: tuple[str, int, bytes], tensors: bytes = b"", count: int = 0, version: int = 3) -> bytes:
    """Return a file of some fields (name, type, value) and tensors."""
    told = b"".join(string(name) + struct.pack("<I", kind) + value for name, kind, value in fields)
    return b"GGUF" + struct.pack("<IQQ", version, count, len(fields)) + told + tensors


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_it_says_what_ggufs_reader_says(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    file, reader = open_file(path), gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in file.fields.items()} == fields
    assert set(file.tensors) == {tensor.name for tensor in reader.tensors}
    for expected in reader.tensors:
        found = file.tensors[expected.name].tensor
        assert (found.kind.name, found.shape) == (expected.tensor_type.name, tuple(expected.shape.tolist()[::-1]))
        rows = file.rows(expected.name, slice(None))
        assert (rows.reshape(-1) == expected.data.view(np.uint8).reshape(-1)).all()
        assert (file.rows(expected.name, slice(1, 2)) == rows[1:2]).all()
        file.give_back(expected.name)
        assert (file.rows(expected.name, slice(None)) == rows).all()


def test_numbers_of_all_types() -> None:
    kinds = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    one = [(str(kind), kind, struct.pack(f"<{code}", 1)) for kind, code in kinds.items()]
    many = [(f"{kind}s", 9, struct.pack(f"<IQ3{code}", kind, 3, 0, 1, 1)) for kind, code in kinds.items()]
    found = read_header(header(*one, *many)).fields
    assert found == {name: 1 for name, *_ in one} | {name: (0, 1, 1) for name, *_ in many}


@pytest.mark.parametrize(
    ("content", "told"),
    {
        "magic": (b"GGML" + bytes(100), "does not begin"),
        "nothing": (b"GGUF", "truncated"),
        "version": (header(version=1), "version 1"),
        "order": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "another order of bytes"),
        "twice": (header(("a", 0, b"a"), ("a", 0, b"a")), "says 'a' twice"),
        "value": (header(("a", 77, b"a")), "type 77"),
        "utf-8": (header(("a", 8, struct.pack("<Q", 1) + b"\xff")), "a text that is none"),
        "nested": (header(("a", 9, struct.pack("<IQ", 9, 1))), "type 9"),
        "fields": (header()[:-8] + struct.pack("<Q", 1 << 60), "promises more"),
        "numbers": (header(("a", 9, struct.pack("<IQ", 0, 1 << 62))), "truncated"),
        "texts": (header(("a", 9, struct.pack("<IQ", 8, 1 << 61))), "truncated"),
        "text": (header(("a", 9, struct.pack("<IQQ", 8, 1, 1 << 63))), "truncated"),
        "alignment": (header(("general.alignment", 4, struct.pack("<I", 3))), "no power of two"),
        "kind": (header(tensors=tensor("t", (32,), kind=99), count=1), "'t' is of type 99"),
        "group": (header(tensors=tensor("t", (33,), kind=8), count=1), "rows of 33"),
        "empty": (header(tensors=tensor("t", (0,)), count=1), "has no weights"),
        "dimensions": (header(tensors=string("t") + struct.pack("<I", 1 << 31), count=1) + bytes(16), "dimensions"),
        "outside": (header(tensors=tensor("t", (32,)), count=1) + bytes(100), "truncated: 't' ends at"),
        "far": (header(tensors=tensor("t", (32,), offset=1 << 63), count=1) + bytes(200), "truncated"),
        "large": (header(tensors=tensor("t", (1 << 62, 1 << 62), kind=8), count=1) + bytes(99), "truncated"),
        "same": (header(tensors=tensor("t", (1,)) * 2, count=2) + bytes(99), "two tensors 't'"),
    }.values(),
)
def test_damage_is_named(content: bytes, told: str) -> None:
    with pytest.raises(Damaged, match=told):
        read_header(content)


def test_no_cut_is_taken_for_a_whole_file(tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "m.gguf", "Q4_0").read_bytes()
    path = tmp_path / "cut.gguf"
    for length in [*range(0, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelUnavailable, match=r"'cut\.gguf'"):
            open_file(path)


@pytest.fixture
def split(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Write the weights of a tiny model as several files: split(2) -> their paths."""

    def write(count: int) -> list[Path]:
        paths = [tmp_path / f"m-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
        weights = list(tiny_weights(20).items())
        for number, path in enumerate(paths):
            writer = gguf.GGUFWriter(path, "llama")
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", count)
            writer.add_int32("split.tensors.count", len(weights))
            for name, values in weights[number::count]:
                writer.add_tensor(name, values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        return paths

    return write


def test_any_part_leads_to_all(split: Callable[[int], list[Path]]) -> None:
    paths, weights = split(3), tiny_weights(20)
    for path in paths:
        file = open_file(path)
        assert list(file.paths) == paths
        assert set(file.tensors) == set(weights)
        for name, values in weights.items():
            assert (file.rows(name, slice(None)).view(np.float32) == values).all()


def test_a_missing_part_is_named(split: Callable[[int], list[Path]]) -> None:
    paths = split(3)
    paths[1].unlink()
    with pytest.raises(ModelUnavailable, match=r"one part of 3, and 'm-00002-of-00003\.gguf' is not beside it"):
        open_file(paths[2])


def test_parts_that_do_not_belong_together(split: Callable[[int], list[Path]], tmp_path: Path) -> None:
    paths = split(2)
    second = paths[1].read_bytes()
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(ModelUnavailable, match=r"'m-00002-of-00002\.gguf' is another part"):
        open_file(paths[0])
    paths[1].write_bytes(second)
    alone = paths[0].rename(tmp_path / "alone.gguf")
    with pytest.raises(ModelUnavailable, match=r"'alone\.gguf' is one part of 2"):
        open_file(alone)


@pytest.mark.parametrize("name", ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00002.gguf.bak"])
def test_other_names_are_no_parts(name: str) -> None:
    assert parts_of(Path(name)) == (Path(name),)
    with pytest.raises(ModelUnavailable, match="one part of 0"):
        parts_of(Path("m-00000-of-00000.gguf"))
