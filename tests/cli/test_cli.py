"""The command line's promises: exit codes, streams, messages of a line or two, and what is never imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.backends import byte_backend
from support.fakes import LoopingRunner, fake_answer
from support.places import ROOT, SAMPLES
from support.program import Outcome

from llmpar.answering.local import LocalBackend
from llmpar.reporting.pace import Machine, Pace
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import Report

Call = Callable[..., Outcome]
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
ARTICLE = str(ROOT / "sample_data" / "article.txt")
CODE = str(ROOT / "llmpar" / "cli")
ECHO = ("run", "--engine", "echo", "x")
UNITS = ("sentence", "paragraph", "line", "document")


def echo_equals(llmpar: Call, path: Path, *options: str) -> None:
    outcome = llmpar(*ECHO, *options, "--quiet", "--", str(path))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == path.read_bytes()


class TestEcho:
    @pytest.mark.parametrize("unit", UNITS)
    @pytest.mark.parametrize("threads", ["1", "8"])
    @pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
    def test_samples_come_back_byte_for_byte(self, llmpar: Call, path: Path, unit: str, threads: str) -> None:
        echo_equals(llmpar, path, "--unit", unit, "-j", threads)

    @pytest.mark.parametrize("unit", UNITS)
    def test_system_texts_come_back_byte_for_byte(self, llmpar: Call, unit: str) -> None:
        texts = [*Path("/usr/share/common-licenses").glob("*"), *sorted(Path(os.__file__).parent.glob("t*.py"))]
        assert len(texts) > 10
        for path in texts:
            if path.is_file():
                echo_equals(llmpar, path, "--unit", unit, "-j", "8")

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"\n", b" \n\t\n", b"x", b"no newline", b"a\r\nb\r\n\r\nc", b"a\rb\n\r\nc\r", b"\x0c\nPage.\x0c\n",
            b"\xef\xbb\xbfMarked. Twice.\n", "Zwei Sätze. Ja!\n".encode("utf-16"), "UTF-32 too. Yes.".encode("utf-32"),
        ],
        ids=repr,
    )  # fmt: skip
    @pytest.mark.parametrize("unit", UNITS)
    def test_layouts_come_back_from_a_pipe(self, llmpar: Call, data: bytes, unit: str) -> None:
        outcome = llmpar(*ECHO, "--unit", unit, stdin=data)
        assert (outcome.code, outcome.out) == (0, data)

    def test_invalid_bytes_are_carried_through_when_asked(self, llmpar: Call) -> None:
        data = b"Good. B\xe4d.\n\n\xff\xfe\x00 Good."
        outcome = llmpar(*ECHO, "--encoding-errors", "surrogateescape", stdin=b"x" + data)
        assert (outcome.code, outcome.out) == (0, b"x" + data)

    def test_files_come_in_the_order_given(self, llmpar: Call, tmp_path: Path) -> None:
        for name in "abc":
            (tmp_path / name).write_text(f"File {name}.")
        outcome = llmpar(*ECHO, str(tmp_path / "c"), "-", str(tmp_path / "a"), stdin=b"Stdin.")
        assert outcome.out == b"File c.Stdin.File a."

    def test_a_file_name_may_be_anything(self, llmpar: Call, tmp_path: Path) -> None:
        for name in ("a b", "new\nline", "-dash", "\udcff\udcfe", "{text}"):
            path = tmp_path / name
            path.write_bytes(b"Text.")
            echo_equals(llmpar, path)


class TestOutput:
    def test_a_file_is_replaced_whole_and_keeps_its_mode(self, llmpar: Call, tmp_path: Path) -> None:
        target = tmp_path / "out"
        target.write_text("old")
        target.chmod(0o640)
        outcome = llmpar(*ECHO, "-o", str(target), ARTICLE)
        assert (outcome.code, outcome.out) == (0, b"")
        assert target.read_bytes() == Path(ARTICLE).read_bytes()
        assert target.stat().st_mode & 0o777 == 0o640
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_directory_takes_each_document(self, llmpar: Call, tmp_path: Path) -> None:
        outcome = llmpar(*ECHO, "--output-dir", str(tmp_path), *map(str, SAMPLES))
        assert outcome.code == 0
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            p.name: p.read_bytes() for p in SAMPLES
        }

    def test_inputs_are_replaced_in_place(self, llmpar: Call, tmp_path: Path) -> None:
        from llmpar.cli.main import _with_optional_values

        first, second = tmp_path / "a.txt", tmp_path / "b.txt"
        for path in (first, second):
            path.write_text("One. Two.\n")
            path.chmod(0o604)
        outcome = llmpar(*ECHO, "--on-error", "mark", "--check", "echo", "--in-place=.bak", str(first), str(second))
        assert outcome.code == 0, outcome.err
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
            ("a.txt", "a.txt.bak", "b.txt", "b.txt.bak"), "One. Two.\n"
        )
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o604}
        # Alone it takes no value, least of all the file that follows.
        assert llmpar(*ECHO, "--in-place", str(first), "--", str(second)).code == 0
        assert _with_optional_values(["--in-place", "a", "--", "--in-place"]) == [
            "--in-place=",
            "a",
            "--",
            "--in-place",
        ]
        assert llmpar(*ECHO, "--in-place", stdin=b"x").code == 2
        assert llmpar(*ECHO, "--in-place", "-o", "x", str(first)).code == 2

    def test_an_interrupt_names_what_is_left_to_replace(
        self, llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from llmpar.documents.output import InPlaceOutput
        from llmpar.errors import Interrupted

        files = [tmp_path / name for name in ("a", "b c", "d")]
        for path in files:
            path.write_text("One. Two.\n")
        publish = InPlaceOutput.end

        def end(output: InPlaceOutput) -> None:
            calls.append(output)
            if len(calls) > 1:
                raise Interrupted(2)
            publish(output)

        calls: list[InPlaceOutput] = []
        monkeypatch.setattr(InPlaceOutput, "end", end)
        outcome = llmpar(*ECHO, "--store", str(tmp_path / "store"), "--in-place", *map(str, files))
        assert outcome.code == 130
        assert f"replaced: 1 document; go on with the others: '{files[1]}' {files[2]}" in outcome.err
        assert "llmpar run --engine" not in outcome.err, "the same command would answer the answers"

        missing = llmpar(*ECHO, "--in-place", str(tmp_path / "missing"), str(files[0]))
        assert missing.code == 66, "nothing is replaced by a command that may not be what was meant"

    def test_a_file_that_is_edited_meanwhile_is_not_replaced(
        self, llmpar: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from llmpar.engine.echo import EchoRunner

        files = [tmp_path / name for name in "ab"]
        for path in files:
            path.write_text("One. Two.\n")
        prefill = EchoRunner.prefill

        def edit(*arguments: Any) -> None:
            files[0].write_text("Edited.\n")
            prefill(*arguments)

        monkeypatch.setattr(EchoRunner, "prefill", edit)
        outcome = llmpar(*ECHO, "--in-place", *map(str, files))
        assert (outcome.code, files[0].read_text()) == (3, "Edited.\n")
        assert re.search(r"a: was changed while it was read", outcome.err)
        assert llmpar(*ECHO, "--in-place", str(files[0])).code == 65
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]

    def test_what_another_run_writes_is_left_to_it(self, llmpar: Call, tmp_path: Path) -> None:
        from llmpar.documents.destination import FileWriter

        target = tmp_path / "out"
        other = FileWriter(target)
        outcome = llmpar(*ECHO, "-o", str(target), ARTICLE)
        assert (outcome.code, outcome.out) == (75, b"")
        assert "--wait" in outcome.err
        timer = threading.Timer(0.5, other.close)
        timer.start()
        assert llmpar(*ECHO, "-o", str(target), "--wait", "30s", ARTICLE).code == 0
        timer.join()
        assert target.read_bytes() == Path(ARTICLE).read_bytes()

    def test_records_go_to_files_of_their_own(self, llmpar: Call, tmp_path: Path) -> None:
        log, text = tmp_path / "log", tmp_path / "text"
        text.write_text("One. Two.\n")
        assert llmpar(*ECHO, "--log", str(log), str(text)).code == 0
        records = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(record["index"], record["start"], record["end"]) for record in records] == [(0, 0, 4), (1, 5, 9)]
        for option in ("--log", "--errors"):
            for place, code in ((text, 2), (tmp_path / "missing" / "log", 73)):
                assert llmpar(*ECHO, option, str(place), str(text)).code == code
            assert llmpar(*ECHO, option, "/dev/full", "--log", "/dev/full", str(text)).code in (2, 74)
        assert llmpar(*ECHO, "--log", str(log), "--errors", str(log), str(text)).code == 2
        assert text.read_text() == "One. Two.\n"

    def test_an_error_halfway_leaves_the_old_file(self, llmpar: Call, tmp_path: Path) -> None:
        target = tmp_path / "out"
        target.write_text("old")
        outcome = llmpar(*ECHO, "-o", str(target), stdin=b"Fine.\n\n" * 40_000 + b"\xff")
        assert outcome.code == 65
        assert target.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_the_summary_is_one_line_and_quiet_drops_it(self, llmpar: Call) -> None:
        assert re.fullmatch(
            r"llmpar run: 2 pieces, 8 tokens in, 8 out, \d+\.\d s\n", llmpar(*ECHO, stdin=b"One. Two.").err
        )
        assert llmpar(*ECHO, "-q", stdin=b"One. Two.").err == ""

    def test_json_progress_is_json(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmpar.reporting.progress._JSON_LINE", 0.0)
        lines = llmpar(*ECHO, "--progress", "json", "-q", ARTICLE).err.splitlines()
        assert lines
        assert json.loads(lines[-1])["segments_read"] > 100

    def test_json_progress_counts_loops(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("llmpar.reporting.progress._JSON_LINE", 0.0)
        Progress("json", "run", Report(num_failed=3, num_looped=2)).tick()
        record = json.loads(capsys.readouterr().err)
        assert (record["segments_failed"], record["segments_looped"]) == (3, 2)

    def test_plain_progress_is_lines(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmpar.reporting.progress._PLAIN_LINE", 0.0)
        lines = llmpar(*ECHO, "--progress", "plain", "-q", ARTICLE).err.splitlines()
        assert re.fullmatch(
            r"llmpar run: [\d,]+ of [\d,]+ pieces, (\d+%, )?[\d,]+ tokens, [\d,]+ tokens/s.*", lines[-1]
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["fly"], 2, "No such command 'fly'"),
            (["helpp"], 2, "Did you mean 'help'? See"),
            (["run", "x", "--precision", "int3"], 2, "'--precision': 'int3' is not one of"),
            (["run", "--fly", "x"], 2, "No such option"),
            (["run"], 2, "name a prompt"),
            (["run", " "], 2, "prompt is empty"),
            (["run", "x", "--unit", "word"], 2, "'word' is not one of"),
            (["run", "x", "-j", "0"], 2, "neither auto nor a number"),
            (["run", "x", "-j", "many"], 2, "neither auto nor a number"),
            (["run", "x", "--batch-size", "-3"], 2, "neither auto nor a number"),
            (["run", "x", "--device", "tpu"], 2, "not one of auto, cpu"),
            (["run", "x", "--device", "cpu:1"], 2, "not one of auto, cpu"),
            (["run", "x", "--precision", "fp4"], 2, "'fp4' is not one of"),
            (["run", "x", "--kv-cache", "int8"], 2, "'int8' is not one of"),
            (["run", "x", "--engine", "steam"], 2, "'steam' is not one of"),
            (["run", "x", "--temperature", "-1"], 2, "--temperature"),
            (["run", "x", "--temperature", "nan"], 2, "--temperature"),
            (["run", "x", "--top-p", "2"], 2, "--top-p"),
            (["run", "x", "--max-new-tokens", "0"], 2, "--max-new-tokens 0: must be 1 or more"),
            (["run", "x", "--seed", "pi"], 2, "--seed"),
            (["run", "x", "--max-repeats", "-1"], 2, "--max-repeats -1: must be 0 or more"),
            (["run", "x", "--max-repeats", "often"], 2, "--max-repeats"),
            (["run", "x", "--language", "klingon"], 2, "unknown language 'klingon'"),
            (["run", "x", "-", "-"], 2, "only once"),
            (["run", "x", "-o", "a", "--output-dir", "b"], 2, "exclude each other"),
            (["run", "x", "-o", "-"], 2, "stdout needs no option"),
            (["run", ARTICLE], 2, "name a prompt first"),
            (["run", "x", "--output-dir", "."], 2, "stdin has no name"),
            (["translate"], 2, "Missing option '--to'"),
            (["translate", "--to", ""], 2, "no language; for example"),
            (["split", "--format", "xml"], 2, "'xml' is not one of"),
            (["split", "--language", "klingon"], 2, "unknown language"),
            (["run", "x", "/does/not/exist"], 66, "/does/not/exist: cannot be read: No such file"),
            (["split", "/does/not/exist"], 66, "No such file"),
            (["run", "x", CODE], 66, "is a directory in which no file is a document by its name"),
            (["run", "--prompt-file", "/does/not/exist"], 66, "No such file"),
            (["run", "x", "-o", "/does/not/exist"], 73, "cannot be created"),
            (["run", "x", "--output-dir", "/does/not/exist", ARTICLE], 73, "is not a directory"),
            (["run", "x", "--model", "no-such-model"], 69, "no-such-model"),
            (["run", "x", "--model", "smollm2-135"], 69, "did you mean"),
            (["run", "x", "--model", "/does/not/exist.gguf"], 69, "/does/not/exist.gguf"),
            (["run", "x", "--dry-run", "--model", "no-such-model"], 69, "no-such-model"),
            (["run", "x", "--device", "cuda:77"], 69, "not on this machine"),
            (["models", "path", "no-such-model"], 69, "no-such-model"),
            (["models", "remove", "no-such-model"], 69, "no-such-model"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_ends_with_its_code_and_a_line_or_two(
        self, llmpar: Call, tiny_model: Path, arguments: list[str], code: int, message: str
    ) -> None:
        if "--device" in arguments:
            arguments = [*arguments, "--model", str(tiny_model)]
        outcome = llmpar(*arguments, stdin=b"Some text.")
        assert message in outcome.err
        assert (outcome.code, outcome.out) == (code, b"")
        assert 1 <= outcome.err.count("\n") <= 2
        assert "Traceback" not in outcome.err

    def test_bad_utf8_is_named_with_its_byte(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, stdin=b"Good text. B\xe4d text.")
        assert (outcome.code, outcome.out) == (65, b"")
        assert "<stdin>: not valid UTF-8 at byte 12" in outcome.err
        assert "--encoding-errors" in outcome.err

    def test_nul_is_named_with_its_byte(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, stdin="Bär\0".encode())
        assert outcome.code == 65
        assert "NUL at byte 4" in outcome.err

    def test_an_output_that_is_an_input_is_refused(self, llmpar: Call, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_text("Text.")
        (tmp_path / "soft").symlink_to(source)
        (tmp_path / "hard").hardlink_to(source)
        for target in ("source", "soft", "hard"):
            outcome = llmpar(*ECHO, "-o", str(tmp_path / target), str(source))
            assert outcome.code == 2, target
            assert "is also an input" in outcome.err
        assert llmpar(*ECHO, "--output-dir", str(tmp_path), str(source)).code == 2
        assert source.read_text() == "Text."

    def test_two_inputs_of_one_name_are_refused(self, llmpar: Call, tmp_path: Path) -> None:
        for name in ("a", "b", "out"):
            (tmp_path / name).mkdir()
        for name in ("a", "b"):
            (tmp_path / name / "x.txt").write_text("Text.")
        outcome = llmpar(
            *ECHO, "--output-dir", str(tmp_path / "out"), str(tmp_path / "a/x.txt"), str(tmp_path / "b/x.txt")
        )
        assert outcome.code == 2
        assert "both would become" in outcome.err

    def test_one_unreadable_file_among_others(self, llmpar: Call, tmp_path: Path) -> None:
        for name in "abc":
            (tmp_path / name).write_text(f"File {name}.")
        outcome = llmpar(*ECHO, str(tmp_path / "a"), str(tmp_path / "missing"), str(tmp_path / "c"))
        assert (outcome.code, outcome.out) == (3, b"File a.File c.")
        assert f"{tmp_path / 'missing'}: cannot be read" in outcome.err
        assert "1 input unreadable" in outcome.err

    def test_one_damaged_file_among_others(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "a").write_text("File a.")
        (tmp_path / "b").write_bytes(b"Fine.\n\n" * 40_000 + b"\xff")
        (tmp_path / "c").write_text("File c.")
        files = [str(tmp_path / name) for name in "abc"]
        outcome = llmpar(*ECHO, "--output-dir", str(tmp_path / "out"), *files)
        assert outcome.code == 3
        assert f"{tmp_path / 'b'}: not valid UTF-8 at byte 280000" in outcome.err
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
        outcome = llmpar(*ECHO, *files)
        assert outcome.code == 3
        assert outcome.out.startswith(b"File a.Fine.")
        assert outcome.out.endswith(b"File c.")
        outcome = llmpar(*ECHO, "-o", str(tmp_path / "whole"), *files)
        assert outcome.code == 65
        assert "-o has all inputs or none" in outcome.err
        assert not (tmp_path / "whole").exists()
        assert llmpar(*ECHO, "-o", str(tmp_path / "all"), *files).code == 65
        assert not (tmp_path / "all").exists()

    def test_what_comes_before_the_damage_is_written(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, stdin=b"Fine.\n\n" * 40_000 + b"\xff")
        assert outcome.code == 65
        assert outcome.out.count(b"Fine.") > 30_000

    def test_a_named_pipe_is_read_once(self, llmpar: Call, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(b"From a pipe.",), daemon=True)
        writer.start()
        assert llmpar(*ECHO, str(fifo)).out == b"From a pipe."

    @pytest.mark.parametrize("name", ["German", "DE", "german"])
    def test_languages_go_by_name_or_code(self, llmpar: Call, name: str) -> None:
        outcome = llmpar("split", "--language", name, stdin=b"Am 3. Mai kam Dr. Ohm usw. zu uns. Gut.")
        assert outcome.out.count(b"\n") == 2

    def test_a_prompt_file_is_checked(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "prompt").write_bytes(b"Say \xff")
        outcome = llmpar("run", "--prompt-file", str(tmp_path / "prompt"))
        assert outcome.code == 65
        assert "not valid UTF-8 at byte 4" in outcome.err

    def test_split_goes_on_after_a_missing_file(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("One. Two.")
        outcome = llmpar("split", str(tmp_path / "missing"), str(tmp_path / "a"))
        assert (outcome.code, outcome.out) == (3, b"One.\nTwo.\n")
        assert "No such file" in outcome.err

    def test_half_a_character_of_utf16_is_carried_through(self, llmpar: Call) -> None:
        data = b"\xff\xfe\0\xd8a\0"
        outcome = llmpar(*ECHO, "--encoding-errors", "surrogateescape", stdin=data)
        assert (outcome.code, outcome.out) == (0, data)
        assert llmpar("split", "--encoding-errors", "surrogateescape", stdin=data).code == 0

    def test_a_closed_stdin_is_named(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, stdin=None)
        assert outcome.code == 66
        assert "<stdin>: is closed" in outcome.err

    def test_a_variable_is_checked_like_its_option(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_THREADS", "lots")
        outcome = llmpar(*ECHO, stdin=b"x")
        assert outcome.code == 2
        assert "neither auto nor a number" in outcome.err


class TestModel:
    def test_any_n_gives_the_same_document(self, llmpar: Call, tiny_model: Path) -> None:
        story = str(ROOT / "sample_data" / "german.txt")
        options = ("--model", str(tiny_model), "--max-new-tokens", "6", "--precision", "fp32", "-q", story)
        alone = llmpar("run", "x", "-j", "1", "--batch-size", "1", *options)
        assert alone.code == 0
        assert alone.out != Path(story).read_bytes()
        for threads, batch in (("2", "5"), ("4", "64"), ("auto", "auto")):
            assert llmpar("run", "x", "-j", threads, "--batch-size", batch, *options).out == alone.out

    def test_the_environment_sets_options(
        self, llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLMPAR_MODEL", str(tiny_model))
        monkeypatch.setenv("LLMPAR_MAX_NEW_TOKENS", "3")
        outcome = llmpar("run", "x", stdin=b"One sentence. Another one.")
        assert outcome.code == 0
        assert "2 cut at the limit" in outcome.err

    def test_seeds(self, llmpar: Call, tiny_model: Path) -> None:
        def draw(seed: str) -> bytes:
            sampling = ("--temperature", "1", "--top-p", "0.9", "--seed", seed, "--max-new-tokens", "8")
            return llmpar("run", "x", "--model", str(tiny_model), *sampling, "-q", stdin=b"One. Two. Three.").out

        assert draw("1") == draw("1")
        assert draw("1") != draw("2")

    def test_verbose_says_what_was_chosen(self, llmpar: Call, tiny_model: Path) -> None:
        outcome = llmpar("run", "x", "-v", "-j", "2", "--batch-size", "3", "--max-new-tokens", "2",
                         "--device", "cpu", "--precision", "fp32", "--model", str(tiny_model), stdin=b"1.")  # fmt: skip
        assert "2 workers with 3 slots and room for 3,072 tokens each on cpu in fp32" in outcome.err

    def test_dry_run_counts_without_weights(
        self, llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("weights were loaded")

        monkeypatch.setattr("llmpar.models.load.load_model", refuse)
        outcome = llmpar("run", "{text}", "--dry-run", "--model", str(tiny_model), stdin=b"One. Two.\n")
        assert outcome.code == 0
        rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in outcome.out.decode().splitlines())
        frame = 1 + len("user\n") + 1 + len("\n") + 1 + len("assistant\n")
        assert rows.pop("memory").startswith("about ")
        assert rows == {
            "documents": "1",
            "pieces (sentences)": "2",
            "to ask": "2",
            "tokens to read": str(2 * (4 + frame)),
            "tokens to write": f"up to {2 * (256 + 4)}",
            "time": "unknown",
        }

    def test_dry_run_tells_the_most_that_a_job_may_take(
        self, llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ["run", "{text}", "--dry-run", "--unit", "line", "--max-new-tokens", "10", "--model", str(tiny_model)]
        many = "".join(f"line {number}\n" for number in range(17)).encode()
        told = llmpar(*command, stdin=many).out.decode()
        assert "up to 170; `--sample 16` finds out" in told
        assert "unknown; `--sample 16` finds out" in told
        pace = Pace(Machine("a", "cpu", "fp32", 1, None), "", 1.0, 0, 10, 1, 0.1, 0.1, 0.1, 1.0, 1.0, 9, 0.0, 1.0, 0.1)
        monkeypatch.setattr("llmpar.cli.forecasting.recall", lambda *_: pace)
        few = llmpar(*command, stdin=many[: many.index(b"line 2")]).out.decode()
        assert "up to 20\n" in few
        assert re.search(r"time +up to .*, as fast as the run of this model here that is most like it\n", few)
        assert "--sample" not in few, "which would be the whole job"
        more = "".join(f"line {number}\n" for number in range(1000)).encode()
        assert "up to 10,000; `--sample 64` finds out" in llmpar(*command, stdin=more).out.decode()

    def test_a_failing_segment_is_named_and_ends_with_3(self, llmpar: Call, tiny_model: Path) -> None:
        long = "word " * 400
        outcome = llmpar("run", "{text}", "--unit", "line", "--max-new-tokens", "2", "--model", str(tiny_model),
                         "--overflow", "error", stdin=f"short\n{long.strip()}\nshort\n".encode())  # fmt: skip
        assert outcome.code == 3
        assert outcome.out.decode().split("\n")[1] == long.strip()
        assert "<stdin>:2 'word word word word word word word word …': its prompt takes" in outcome.err
        assert "1 failed and kept as it was" in outcome.err

    def test_hostile_text_keeps_its_shape(self, llmpar: Call, tiny_model: Path) -> None:
        hostile = ROOT / "sample_data" / "hostile.txt"
        outcome = llmpar(
            "run", "{text}", "--unit", "line", "--max-new-tokens", "2", "--model", str(tiny_model), str(hostile)
        )
        assert outcome.code in (0, 3)
        assert outcome.out.count(b"\n") == hostile.read_bytes().count(b"\n")


class TestLoops:
    TEXT = b"one\nloop\ntwo\nloop\nthree"

    @pytest.fixture(autouse=True)
    def _looping(self, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
        from llmpar.answering.model import LocalModel

        def looping(model: LocalModel, _: object) -> LocalBackend:
            count = model._choice.threads or 1
            return byte_backend([LoopingRunner(2, delay=0.001, seed=i) for i in range(count)])

        monkeypatch.setattr(LocalModel, "open", looping)
        monkeypatch.setenv("LLMPAR_NO_STORE", "1")
        # A model that is here already: the fetch of the default one would be announced among the lines that are read.
        monkeypatch.setenv("LLMPAR_MODEL", str(tiny_model))

    @pytest.mark.parametrize("threads", ["1", "2", "7"])
    def test_a_loop_is_stopped_named_and_counted(self, llmpar: Call, threads: str) -> None:
        outcome = llmpar("run", "{text}", "-u", "line", "-j", threads, stdin=self.TEXT)
        one, two, three = (bytes(fake_answer(word)).decode() for word in (b"one", b"two", b"three"))
        assert (outcome.code, outcome.out.decode().split("\n")) == (3, [one, "loop", two, "loop", three])
        lines = outcome.err.splitlines()
        advice = lines.index("llmpar run: 2 pieces had no good answer")
        *notes, summary = lines[:advice]
        reason = "the answer repeats itself (stopped after 80 tokens); kept as it was"
        assert notes == [f"llmpar run: <stdin>:{line} 'loop': {reason}" for line in (2, 4)]
        assert lines[advice + 1].startswith("  --retries 3 asks more often, ")
        assert lines[advice + 2 :] == ["  --on-error mark shows in the output which they are"]
        assert "5 pieces, 2 failed and kept as they were (2 in a loop), 1 repeated, " in summary

    def test_0_stops_no_loop(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_MAX_REPEATS", "0")
        outcome = llmpar("run", "{text}", "-u", "line", "-j", "2", "--max-new-tokens", "200", stdin=self.TEXT)
        assert outcome.code == 0
        assert outcome.out.split(b"\n")[1] == (b"ab" * 100)
        assert "2 cut at the limit" in outcome.err


class TestSplit:
    def test_records_hold_spans(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        text = "# Title\n\nOne sentence\nover two lines. Ünd another!\n"
        path.write_text(text, encoding="utf-8-sig")
        records = [json.loads(line) for line in llmpar("split", "--format", "jsonl", str(path)).out.splitlines()]
        assert [record["text"] for record in records] == ["Title", "One sentence over two lines.", "Ünd another!"]
        assert [text[r["start"] : r["end"]] for r in records] == [
            "Title",
            "One sentence\nover two lines.",
            "Ünd another!",
        ]
        assert [record["index"] for record in records] == [0, 1, 2]
        assert {record["document"] for record in records} == {str(path)}

    def test_text_is_a_piece_a_line(self, llmpar: Call) -> None:
        assert llmpar("split", stdin=b"One. Two\nthree.\n").out == b"One.\nTwo three.\n"


class TestProcess:
    def test_help_imports_neither_torch_nor_rich_progress(self) -> None:
        code = (
            "import sys; from llmpar.cli.main import run_command_line; code = run_command_line(['--help']);"
            "print([m for m in ('torch', 'transformers', 'nltk', 'numpy', 'tokenizers') if m in sys.modules],"
            "file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"
        assert "translate" in done.stdout

    @pytest.mark.parametrize("command", ["run", "translate", "summarize", "split", "models"])
    def test_every_command_helps_with_an_example(self, llmpar: Call, command: str) -> None:
        outcome = llmpar(command, "--help")
        assert outcome.code == 0

    def test_version(self, llmpar: Call) -> None:
        assert llmpar("--version").code == 0

    def test_a_closed_reader_ends_the_run(self) -> None:
        command = f"yes 'A line of text.' | {sys.executable} -m llmpar run --engine echo x --unit line | head -3"
        done = subprocess.run(
            ["bash", "-c", f"{command}; echo ${{PIPESTATUS[1]}}"], capture_output=True, timeout=60, check=True
        )
        assert done.stdout.decode() == "A line of text.\n" * 3 + "141\n"
        assert done.stderr == b""

    def test_closed_streams_are_no_traceback(self, tmp_path: Path) -> None:
        def run(redirections: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
            command = ["bash", "-c", f'exec "$@" {redirections}', "-", sys.executable, "-m", "llmpar", *arguments]
            return subprocess.run(command, capture_output=True, timeout=60, check=False)

        done = run(">&-", *ECHO, ARTICLE)
        assert (done.returncode, done.stderr) == (73, b"llmpar: stdout: is closed; use --output FILE\n")
        target = tmp_path / "out"
        assert run("<&- >&- 2>&-", *ECHO, ARTICLE, "-o", str(target)).returncode == 0
        assert target.read_bytes() == Path(ARTICLE).read_bytes()
        assert run("2>/dev/full", *ECHO, ARTICLE, "-o", str(target)).returncode == 0
        assert run("2>/dev/full", *ECHO, "/does/not/exist").returncode == 66
        for arguments in (["--help"], [*ECHO, "--dry-run", ARTICLE]):
            done = run(">/dev/full", *arguments)
            assert done.returncode == 74, arguments
            assert b"Traceback" not in done.stderr

    def test_stdout_that_is_an_input_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "text"
        for command in ('"$@" "$0" >> "$0"', '"$@" < "$0" >> "$0"', '"$@" < "$0" -o "$0"'):
            path.write_text("Text.")
            arguments = ["bash", "-c", command, str(path), sys.executable, "-m", "llmpar", *ECHO]
            done = subprocess.run(arguments, capture_output=True, timeout=60, check=False)
            assert done.returncode == 2, command
            assert b"is also an input" in done.stderr
            assert path.read_text() == "Text."

    def test_a_signal_while_the_model_loads_is_a_signal(self, tiny_model: Path) -> None:
        code = (
            "import signal, sys\n"
            "import llmpar.models.load as load\n"
            "load.watch = lambda *a, **k: signal.raise_signal(signal.SIGTERM)\n"
            f"sys.argv = ['llmpar', 'run', 'x', '--model', {str(tiny_model)!r}]\n"
            "from llmpar.cli.main import main; main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], input=b"Text.", capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 143, done.stderr
        assert b"interrupted by SIGTERM" in done.stderr

    def test_a_full_device_is_never_success(self, shell: Shell) -> None:
        with Path("/dev/full").open("wb") as full:
            for text in (b"Short.", b"Long text. " * 100_000):
                done = subprocess.run([sys.executable, "-m", "llmpar", *ECHO, "-q"], input=text, stdout=full,
                                      stderr=subprocess.PIPE, check=False)  # fmt: skip
                assert done.returncode == 74
                assert b"No space left" in done.stderr
        assert shell(*ECHO, "-o", "/dev/full", input=b"Text.").returncode == 74

    @pytest.mark.parametrize(("signal", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
    def test_signals_end_the_run_and_leave_the_destination(self, tmp_path: Path, signal: str, code: int) -> None:
        target = tmp_path / "out"
        target.write_text("old")
        command = [sys.executable, "-m", "llmpar", *ECHO, "-o", str(target)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(b"First paragraph.\n\nSecond")
            process.stdin.flush()
            deadline = time.monotonic() + 20
            while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)  # until it has opened its output
            time.sleep(0.3)
            process.send_signal(getattr(__import__("signal"), f"SIG{signal}"))
            assert process.wait(timeout=10) == code
            assert process.stderr is not None
            message = process.stderr.read().decode()
        told = rf"llmpar run: interrupted by SIG{signal} after \d pieces?; .*out is untouched\n"
        assert re.fullmatch(told, message)
        assert target.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_cron_has_no_home_no_locale_and_no_stdin(self, shell: Shell) -> None:
        command = [sys.executable, "-m", "llmpar", *ECHO, str(ROOT / "sample_data" / "german.txt")]
        environment = {"LANG": "C", "PATH": os.environ["PATH"]}
        closed = ["bash", "-c", 'exec "$@" <&-', "-", *command]
        done = subprocess.run(closed, env=environment, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, (ROOT / "sample_data" / "german.txt").read_bytes())
        assert done.stderr.count(b"\n") == 1
        assert b"\x1b" not in done.stderr
