"""The process in which chat templates are rendered. Run by `models.template`; imports nothing of llmpar.

What a template makes Python do in C heeds no deadline, and may need any memory. A process of its own can be ended by
another at any time, and its memory be limited without touching anybody else's.

The first line of stdin is where modules are found, each further one a template with what it is given; each line of
stdout answers one of them. All are JSON.
"""

from __future__ import annotations

import json
import os
import select
import sys
from datetime import datetime
from typing import Any, NoReturn

_IDLE = 10.0  # seconds without a template, after which this process is not worth its memory
_SECONDS = 10  # of the processor for one template, should nobody be there any more to end this process


def serve() -> None:
    """Render templates until there are no more."""
    with open(0, "rb", buffering=0, closefd=False) as stream:
        sys.path[:] = json.loads(stream.readline())
    environment = sandbox()
    while select.select([0], [], [], _IDLE)[0] and (line := _line()):
        job = json.loads(line)
        _limit(job["bytes"])
        try:
            text = environment.from_string(job["source"]).render(**job["given"])
            answer = {"text": text if len(text) <= job["most"] else None}
        except MemoryError:
            answer = {"error": "it takes too much memory"}
        except Exception as error:  # a template can raise anything that Python can
            answer = {"error": (str(error).strip() or type(error).__name__).splitlines()[0][:1000]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def sandbox() -> Any:
    """Return jinja's sandbox with what transformers gives to chat templates."""
    from jinja2 import TemplateError, ext, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(ext.Extension):
        """Takes the tag that marks answers, which changes nothing in a prompt."""

        tags = {"generation"}  # noqa: RUF012 (as jinja has it)

        def parse(self, parser: Any) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body)

    class Names(Namespace):
        """A namespace that holds nothing of Python's own."""

        def __setitem__(self, name: str, value: object) -> None:
            if name.startswith("_"):
                raise SecurityError(f"a namespace cannot hold {name!r}")
            super().__setitem__(name, value)

    def new_names(*arguments: Any, **named: Any) -> Names:
        names = Names()
        for name, value in dict(*arguments, **named).items():
            names[name] = value
        return names

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    def new_dict(*arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    extensions = [Generation, ext.loopcontrols]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": refuse, "strftime_now": strftime_now}
    environment.globals |= {"dict": new_dict, "namespace": new_names}
    return environment


def _line() -> bytes:
    # Unbuffered, so that `select` tells whether there is more.
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        part = os.read(0, 1 << 20)
        if not part:
            return b""
        parts.append(part)
    return b"".join(parts)


def _limit(num_bytes: int) -> None:
    """Allow this process so much more memory than it has, and some seconds."""
    try:
        import resource
        from pathlib import Path

        spent = resource.getrusage(resource.RUSAGE_SELF)
        limits = {resource.RLIMIT_CPU: int(spent.ru_utime + spent.ru_stime) + _SECONDS}
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = used + num_bytes
        for kind, limit in limits.items():
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    except (ImportError, OSError, ValueError):  # not Linux: time alone is limited
        pass


if __name__ == "__main__":
    serve()
