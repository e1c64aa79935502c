"""llama.cpp's server, asked over HTTP. `model` is a GGUF file. Options: command, num_slots, context (tokens of a slot),
temperature.

All prompts go in one request, so that the client takes nothing from the server's cores.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

from peers.protocol import Peer, Setup, serve

_CONTEXT = 256  # tokens of a slot, prompt and answer, where nothing else is said


@contextmanager
def open_peer(setup: Setup) -> Iterator[Peer]:
    command, num_slots = setup.options["command"], setup.options["num_slots"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            command,
            *("--model", setup.model, "--host", "127.0.0.1", "--port", str(port), "--offline"),
            *("--parallel", str(num_slots), "--ctx-size", str(num_slots * setup.options.get("context", _CONTEXT))),
            *("--threads", str(setup.num_cores), "--threads-batch", str(setup.num_cores)),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        while _get(port, "/health") != 200:
            if server.poll() is not None:
                raise RuntimeError(f"{command} ended with {server.returncode}")
            time.sleep(0.05)

        def answer(prompts: list[list[int]]) -> list[list[int]]:
            request = {
                "prompt": prompts,
                "n_predict": setup.max_new_tokens,
                **_sampling(setup.options.get("temperature", 0)),
                "cache_prompt": True,
                "return_tokens": True,
                "ignore_eos": not setup.stop_ids,
            }
            results = _post(port, "/completion", request)
            results.sort(key=lambda result: result["index"])
            return [result["tokens"] for result in results]

        yield Peer(answer, _version(command), f"{num_slots} slots")
    finally:
        server.terminate()
        server.wait()


def _sampling(temperature: float) -> dict[str, Any]:
    return {"temperature": temperature, "top_k": 0 if temperature else 1, "top_p": 1, "min_p": 0}


def _get(port: int, path: str) -> int:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:  # not listening yet
        return 0


def _post(port: int, path: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = json.loads(response.read())
    if response.status != 200:
        raise RuntimeError(f"{path} answered {response.status}: {body}")
    results: list[dict[str, Any]] = body if isinstance(body, list) else [body]
    return results


def _version(command: str) -> str:
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version:")]
    return "llama.cpp " + (lines[0].removeprefix("version:").strip() if lines else "of unknown version")


if __name__ == "__main__":
    serve(open_peer)
