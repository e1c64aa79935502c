"""The lines that show a run, on terminals of all widths."""

from __future__ import annotations

import re

from llmpar.engine.worker import WorkerStatus
from llmpar.reporting.outlook import Outlook
from llmpar.reporting.picture import picture
from llmpar.reporting.report import Report


def test_a_worker_says_as_much_as_fits_and_no_half_words() -> None:
    statuses = [WorkerStatus(phase="decode", num_running=21, num_tokens=number) for number in (999, 27_257, 9_827_257)]
    outlook = Outlook(1, 1, 1.0, 1.0, 0.5, 9.0)
    for columns in range(30, 60):
        workers = picture("run", Report(), outlook, statuses, "", columns, 24)[-3:]
        assert all(re.search(r"pieces(, [\d,]+( tokens)?( written)?)?$", line) for line in workers), workers
        assert all(len(line) < columns for line in workers)
