"""llmpar against what people would use instead, on the same prompts and the same token budget.

Run it with llmpar's interpreter:

    python tests/benchmarks/compare.py --rounds 3 --precisions int8,bf16 --markdown table.md \\
        --openvino OV/bin/python --openvino-model OV_MODEL \\
        --ctranslate2 CT2/bin/python --ctranslate2-model CT2_MODEL \\
        --llama-server LLAMA/bin/llama-server --llama-model Q4_0.gguf --llama-model Q8_0.gguf \\
        --vllm VLLM/bin/python

A round gives every engine one turn, in a process of its own and with the machine to itself: load, a warm-up on other
prompts, then the job, which alone is timed. Greedy; an answer ends at end-of-sequence. What answers one prompt after
the other gets a part of the sentences, spread over the story. Ratios are taken within a round, and their median shown.
"Equal" is the share of answers that are, token for token, those of llmpar's fp32; transformers' own tell whether that
is a fair measure. How to make the peers' environments and models: README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

from harness.job import Job, make_job
from harness.machine import describe_machine
from harness.table import markdown_table
from harness.turn import Contender, Turn, TurnFailed, take_turn

_DISTURBED = 0.05  # share of the processors that others may use before a turn says so
_HEADER = ["engine", "sentences/s", "range", "load s", "tokens/sentence", "empty", "equal", "peak MB"]


def main() -> int:
    options = _options()
    job = make_job(options.model, options.sentences, options.max_new_tokens)
    contenders = _contenders(options)
    known = [contender.name for contender in contenders]
    if options.only:
        contenders = [contender for contender in contenders if any(word in contender.name for word in options.only)]
    if not contenders:
        sys.exit(f"--only matches none of: {', '.join(known)}")
    print(describe_machine(), job, sep="\n", flush=True)
    rounds = [_round(number + 1, contenders, job) for number in range(options.rounds)]
    reference = _reference(options, rounds, job)
    report = _report(contenders, rounds, reference)
    print("\n" + report)
    if options.markdown:
        options.markdown.write_text(f"{describe_machine()}\n\n{job}\n\n{report}\n", encoding="utf-8")
    if options.json:
        options.json.write_text(_as_json(rounds), encoding="utf-8")
    return 0 if all(contender.name in turns for turns in rounds for contender in contenders) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="smollm2-135m", help="as llmpar's --model")
    add("--rounds", type=int, default=3, help="turns for each engine")
    add("--sentences", type=int, default=400, help="how many of the story's are asked")
    add("--max-new-tokens", type=int, default=64, help="where an answer is cut")
    add("--precisions", type=_words, default=["fp32", "bf16", "int8"], help="llmpar's, the first for comparison")
    add("--threads", type=int, default=0, help="llmpar's -j, 0 for auto")
    add("--batch-size", type=int, default=0, help="llmpar's, 0 for auto")
    add("--transformers-precisions", type=_words, default=["bf16"], help="fp32, bf16 or none")
    add("--transformers-sentences", type=int, default=24, help="for the ways that ask one prompt after the other")
    add("--transformers-batch-size", type=int, default=32, help="of sorted batches")
    add("--openvino", metavar="PYTHON", help="an interpreter with openvino-genai")
    add("--openvino-model", metavar="DIR", help="exported, int8 weights")
    add("--openvino-sequences", type=int, default=64, help="at once")
    add("--openvino-batched-tokens", type=int, default=256, help="of a step, OpenVINO GenAI's own default")
    add("--ctranslate2", metavar="PYTHON", help="an interpreter with ctranslate2")
    add("--ctranslate2-model", metavar="DIR", help="converted, int8")
    add("--ctranslate2-threads", default="2x1", help="inter × intra")
    add("--ctranslate2-batch-size", type=int, default=32, help="sequences of a batch")
    add("--llama-server", metavar="PATH", help="llama.cpp's server")
    add("--llama-model", metavar="GGUF", action="append", default=[], help="repeat for several; named by the file")
    add("--llama-slots", type=int, default=32, help="sequences at once")
    add("--vllm", metavar="PYTHON", help="an interpreter with vLLM's CPU build; it takes llmpar's model directory")
    add("--vllm-sequences", type=int, default=256, help="at once, vLLM's own default")
    add("--only", metavar="WORD", action="append", help="only engines with this in their name; may be repeated")
    add("--markdown", type=Path, metavar="FILE", help="write the table there")
    add("--json", type=Path, metavar="FILE", help="write every turn there, answers included")
    options = parser.parse_args()
    for peer, model in (("openvino", "openvino"), ("ctranslate2", "ctranslate2"), ("llama_server", "llama")):
        if getattr(options, peer) and not getattr(options, f"{model}_model"):
            parser.error(f"--{peer.replace('_', '-')} needs --{model}-model")
    return options


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word and word != "none"]


def _contenders(options: argparse.Namespace) -> list[Contender]:
    found = [
        Contender(f"llmpar {precision}", "llmpar", _llmpar_options(options, precision))
        for precision in options.precisions
    ]
    if options.openvino:
        found.append(
            Contender(
                "OpenVINO GenAI",
                "openvino",
                {"num_sequences": options.openvino_sequences, "batched_tokens": options.openvino_batched_tokens},
                options.openvino,
                options.openvino_model,
            )
        )
    if options.ctranslate2:
        inter, intra = map(int, options.ctranslate2_threads.split("x"))
        found.append(
            Contender(
                "CTranslate2 int8",
                "ctranslate2",
                {"inter_threads": inter, "intra_threads": intra, "batch_size": options.ctranslate2_batch_size},
                options.ctranslate2,
                options.ctranslate2_model,
            )
        )
    if options.llama_server:
        found += [
            Contender(
                f"llama.cpp server {Path(model).stem}",
                "llama_server",
                {"command": options.llama_server, "num_slots": options.llama_slots},
                model=str(Path(model).resolve()),
            )
            for model in options.llama_model
        ]
    if options.vllm:
        found.append(Contender("vLLM CPU bf16", "vllm", {"num_sequences": options.vllm_sequences}, options.vllm))
    for precision in options.transformers_precisions:
        part = options.transformers_sentences
        size = options.transformers_batch_size
        for name, way, num_sentences in (
            (f"transformers {precision}, sorted batches of {size}", "sorted", None),
            (f"transformers {precision}, a thread per shard", "threads", part),
            (f"transformers {precision}, one at a time", "one", part),
        ):
            settings = {"precision": precision, "way": way, "batch_size": size}
            found.append(Contender(name, "transformers", settings, num_sentences=num_sentences))
    return found


def _llmpar_options(options: argparse.Namespace, precision: str) -> dict[str, object]:
    return {"precision": precision, "threads": options.threads, "batch_size": options.batch_size}


def _round(number: int, contenders: list[Contender], job: Job) -> dict[str, Turn]:
    turns: dict[str, Turn] = {}
    for contender in contenders:
        try:
            turn = take_turn(contender, job)
        except TurnFailed as error:
            print(f"round {number}  {contender.name}: FAILED\n{error}", flush=True)
            continue
        turns[contender.name] = turn
        disturbed = f"  (others used {turn.others:.0%} of the processors)" if turn.others > _DISTURBED else ""
        print(f"round {number}  {contender.name}: {turn.rate:.2f} sentences/s{disturbed}", flush=True)
    return turns


def _reference(options: argparse.Namespace, rounds: list[dict[str, Turn]], job: Job) -> dict[int, list[int]]:
    """Return llmpar's fp32 answers, from a round if it took part."""
    name = "llmpar fp32"
    for turns in rounds:
        if name in turns:
            return turns[name].outputs
    try:
        return take_turn(Contender(name, "llmpar", _llmpar_options(options, "fp32")), job).outputs
    except TurnFailed as error:
        print(f"no fp32 answers to compare with: {error}")
        return {}


def _report(contenders: list[Contender], rounds: list[dict[str, Turn]], reference: dict[int, list[int]]) -> str:
    ours = [contender.name for contender in contenders if contender.peer == "llmpar"]
    rows, notes = [], []
    for contender in contenders:
        turns = [turns[contender.name] for turns in rounds if contender.name in turns]
        if not turns:
            continue
        ratios = [
            [turns[our].rate / turns[contender.name].rate for turns in rounds if {our, contender.name} <= turns.keys()]
            for our in ours
        ]
        times = [f"{median(ratio):.2f}" if ratio else "" for ratio in ratios]
        rows.append([*_row(contender, turns, reference), *times])
        settings = f", {turns[0].settings}" if turns[0].settings else ""
        part = f"; {len(turns[0].outputs)} sentences, scaled" if contender.num_sentences else ""
        others = max(turn.others for turn in turns)
        disturbed = f"; others used up to {others:.0%} of the processors" if others > _DISTURBED else ""
        notes.append(f"- {contender.name}: {turns[0].version}{settings}{part}{disturbed}")
    if not rows:
        return "every engine failed"
    table = markdown_table([*_HEADER, *(f"× of {our}" for our in ours)], rows)
    legend = (
        f'Medians of {len(rounds)} round(s). "× of" is how many times as fast that llmpar is as the engine; '
        '"equal" the answers that are llmpar\'s fp32 greedy ones, token for token; memory is of all its processes, '
        "mapped files included."
    )
    return f"{table}\n\n{legend}\n\n" + "\n".join(notes)


def _row(contender: Contender, turns: list[Turn], reference: dict[int, list[int]]) -> list[str]:
    rates = [turn.rate for turn in turns]
    outputs = turns[0].outputs
    equal = sum(ids == reference.get(index) for index, ids in outputs.items()) / len(outputs)
    return [
        contender.name,
        f"{median(rates):.2f}",
        f"{min(rates):.2f}–{max(rates):.2f}",
        f"{median(turn.load_seconds for turn in turns):.1f}",
        f"{sum(map(len, outputs.values())) / len(outputs):.1f}",
        str(sum(not ids for ids in outputs.values())),
        f"{equal:.0%}" if reference else "",
        f"{median(turn.peak_memory for turn in turns) / 1e6:,.0f}",
    ]


def _as_json(rounds: list[dict[str, Turn]]) -> str:
    from dataclasses import asdict

    return json.dumps([{name: asdict(turn) for name, turn in turns.items()} for turns in rounds])


if __name__ == "__main__":
    sys.exit(main())
