"""`python -m llmpar`, and what the `llmpar` script calls: little is imported before signals end it cleanly."""

from __future__ import annotations

import gc
import os
import signal
import sys

_GARBAGE = 50_000  # objects that may be there before any is looked for that nothing needs
_UNAVAILABLE = 69  # as an error of a model that cannot be used
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the program."""
    # What is imported and read at the start stays. To look through all of it, whenever a few hundred objects more are
    # there, takes a tenth of the time until the first answer.
    gc.set_threshold(_GARBAGE, 20, 20)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python's handler would print a traceback. Until there is ours, nothing has begun that must be kept.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from llmpar import unforeseen

    if sys.platform == "win32":  # locks, signals and limits are those of POSIX
        unforeseen.say("llmpar does not run on Windows itself; run it in WSL 2 (`wsl --install`)")
        os._exit(_UNAVAILABLE)
    # A run tells of its progress at this signal. Until there is any to tell, it must not end the process.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        from llmpar.cli.main import main as run
    except BaseException as error:
        line, code = unforeseen.explain(error)
        unforeseen.say(line)
        os._exit(code)
    run()


if __name__ == "__main__":
    main()
