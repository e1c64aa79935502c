"""What stands in a text for something else, or is an address: what people never translate. Knows no format."""

from __future__ import annotations

import re
from collections.abc import Iterator

ADDRESS = r"(?:\bhttps?://|\bftp://|\bwww\.)[!\#-;=?-\[\]_a-z~]+"
"""An address of the web, as far as it is ASCII, for a pattern that is verbose and knows no case."""
MAIL = r"(?<![\w.+-])[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
"""An e-mail address, for the same."""
PLACEHOLDER = r"""
    \$?\{\{[^{}\n]{1,80}\}\} | \$\{[^{}\n]{1,80}\} | \{[^{}\s]{0,80}\}          # {{x}}, ${VAR}, {name}
    | (?<![\w$])\$[A-Za-z_][A-Za-z0-9_]*                                        # $VAR
    | (?<![\d%])%(?:\([A-Za-z0-9_]{1,80}\)|\d{1,2}\$)?[-+0\#]?\d{0,3}(?:\.\d{1,3})?[sdifgxXuc@](?![A-Za-z0-9])
"""
"""What a program puts a value for, for the same."""
AFTER_ADDRESS = ".,;:!?)]}>*'\""
"""What an address does not end with: it is the sentence's."""

_PATTERN = re.compile(rf"(?P<address>{ADDRESS}) | {MAIL} | {PLACEHOLDER}", re.VERBOSE | re.IGNORECASE | re.ASCII)


def placeholder_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each address and each placeholder in a text."""
    for match in _PATTERN.finditer(text):
        end = match.start() + len(match[0].rstrip(AFTER_ADDRESS)) if match["address"] else match.end()
        yield match.start(), end
