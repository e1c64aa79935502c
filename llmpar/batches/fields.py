"""The fields of a JSON object, taken one by one by name and type; what nobody took is refused.

Unknown fields are refused, not ignored as vLLM does: a misspelled `temprature` would change every answer unseen.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn

from llmpar.visible import no_json, one_line

LARGEST = 2**63 - 1
_LONGEST_SHOWN = 40


class Fields:
    """An object within a request.

    Args:
        value: what should be an object. A field that is null is one that is not there, as in the API.
        path: where it is in the request's body, empty for the body itself.
        refuse: raises BadRequest with a message, a code and the name of the field.
    """

    def __init__(self, value: object, path: str, refuse: Callable[[str, str, str], NoReturn]) -> None:
        self._path = path
        self._refuse = refuse
        if not isinstance(value, dict):
            refuse(f"{path or 'body'} must be an object, not {shown(value)}", "invalid_type", path or "body")
        self._values: dict[str, object] = value
        self._taken: set[str] = set()

    def path(self, name: str) -> str:
        """Return a field's name as messages have it."""
        return f"{self._path}.{name}" if self._path else name

    def refuse(self, name: str, reason: str, code: str) -> NoReturn:
        """Raise BadRequest about a field."""
        self._refuse(f"{self.path(name)} {reason}", code, self.path(name))

    def take(self, name: str) -> object:
        """Return a field's value, None if it is not there."""
        self._taken.add(name)
        return self._values.get(name)

    def require(self, name: str) -> object:
        """Return a field's value, which must be there."""
        value = self.take(name)
        if value is None:
            self.refuse(name, "is missing", "missing_required_parameter")
        return value

    def take_object(self, name: str) -> Fields | None:
        """Return a field that is an object."""
        value = self.take(name)
        return None if value is None else Fields(value, self.path(name), self._refuse)

    def take_objects(self, name: str) -> list[Fields]:
        """Return a field that is a list of objects."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(name, f"must be a list of objects, not {shown(value)}", "invalid_type")
        return [Fields(item, f"{self.path(name)}[{place}]", self._refuse) for place, item in enumerate(value)]

    def take_flag(self, name: str) -> bool:
        """Return a field that is true or false, false if it is not there."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, f"must be true or false, not {shown(value)}", "invalid_type")
        return bool(value)

    def take_text(self, name: str) -> str | None:
        """Return a field that is a string."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, f"must be a string, not {shown(value)}", "invalid_type")
        return value

    def take_texts(self, name: str) -> tuple[str, ...]:
        """Return a field that is a list of strings, or one string."""
        value = self.take(name)
        if value is None:
            return ()
        texts: list[object] = value if isinstance(value, list) else [value]
        if wrong := [text for text in texts if not isinstance(text, str)]:
            self.refuse(name, f"must be a string or a list of strings; {shown(wrong[0])} is none", "invalid_type")
        return tuple(text for text in texts if isinstance(text, str))

    def take_number(self, name: str, least: float, most: float) -> float | None:
        """Return a field that is a number within bounds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, f"must be a number, not {shown(value)}", "invalid_type")
        if not least <= value <= most:
            self.refuse(name, f"must be from {least:g} to {most:g}, not {shown(value)}", "invalid_value")
        return float(value)

    def take_integer(self, name: str, least: int, most: int = LARGEST) -> int | None:
        """Return a field that is a whole number within bounds; 16.0 is one, as some languages write no other."""
        value = self.take(name)
        if value is None:
            return None
        whole = isinstance(value, float) and value.is_integer()
        if isinstance(value, bool) or not (whole or isinstance(value, int)):
            self.refuse(name, f"must be a whole number, not {shown(value)}", "invalid_type")
        assert isinstance(value, int | float)
        if not least <= value <= most:
            bounds = f"at least {least}" if value < least else f"at most {most}"
            self.refuse(name, f"must be {bounds}, not {shown(value)}", "invalid_value")
        return int(value)

    def close(self, neutral: Mapping[str, Sequence[object]], informative: Collection[str] = ()) -> None:
        """Refuse what was not taken and might change the answer.

        Args:
            neutral: fields that we know and cannot follow, with the values that change nothing.
            informative: fields that change no answer.
        """
        for name, value in self._values.items():
            if name in self._taken or name in informative:
                continue
            if name not in neutral:
                names = {*self._taken, *neutral, *informative}
                near = difflib.get_close_matches(name[:_LONGEST_SHOWN], sorted(names), 1)
                remedy = f"do you mean {near[0]}?" if near else "leave it out"
                # A name may be anything, of any length.
                self.refuse(name[:_LONGEST_SHOWN], f"is no known field; {remedy}", "unknown_parameter")
            if value is None or any(_is_same(value, other) for other in neutral[name]):
                continue
            if not neutral[name]:
                self.refuse(name, "is not supported; leave it out", "unsupported_parameter")
            values = " or ".join(json.dumps(other) for other in neutral[name])
            reason = f"{shown(value)} is not supported; leave it out or give {values}"
            self.refuse(name, reason, "unsupported_value")


def parse_json(text: str) -> object:
    """Return the value of a JSON text, strictly: what cannot be written again as JSON in UTF-8 is not read.

    Raises:
        ValueError: what is wrong with the text.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(no_json(error)) from error
    except UnicodeEncodeError as error:
        raise ValueError("has half of a surrogate pair, which is no text") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError("has a number that JSON does not have, or that is too large") from error
    return value


def shown(value: object) -> str:
    """Return a value as a message shows it, which is short whatever it is."""
    if isinstance(value, dict | list) and value:
        return "an object" if isinstance(value, dict) else "a list"
    text = one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _is_same(value: object, other: object) -> bool:
    # To Python, False is 0 and True is 1.
    return isinstance(value, bool) == isinstance(other, bool) and value == other
