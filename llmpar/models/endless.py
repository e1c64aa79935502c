"""Whether any value can fulfil a JSON schema in the end: one that always leads to itself again has none."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

_COMBINING = ("anyOf", "oneOf")  # one of them is enough


def is_endless(schema: dict[str, Any]) -> bool:
    """Tell whether every value of a schema would hold another one of it, without end.

    What is not known to be so is not: other keywords may forbid values, which is for others to find out.
    """
    targets = {reference: _find(schema, reference) for reference in _references(schema)}
    ending: set[str] = set()
    # A reference ends if what it stands for does, with what is known to end already; until no more is learnt.
    while found := {name for name, target in targets.items() if name not in ending and _ends(target, targets, ending)}:
        ending |= found
    return not _ends(schema, targets, ending)


def _ends(schema: Any, targets: dict[str, Any], ending: set[str]) -> bool:
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return True
    reference = schema.get("$ref")
    if reference in targets and targets[reference] is not None and reference not in ending:
        return False
    for key in _COMBINING:
        parts = schema.get(key)
        if isinstance(parts, list) and parts and not any(_ends(part, targets, ending) for part in parts):
            return False
    needed = list(schema["allOf"]) if isinstance(schema.get("allOf"), list) else []
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list) and schema.get("type") == "object":
        needed += [properties.get(name) for name in required if isinstance(name, str)]
    num_items = schema.get("minItems")
    if isinstance(num_items, int) and num_items > 0 and schema.get("type") == "array":
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        needed += first[:num_items] + ([schema.get("items")] if num_items > len(first) else [])
    return all(_ends(part, targets, ending) for part in needed)


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_references, schema))
    if not isinstance(schema, dict):
        return set()
    found = set().union(*map(_references, schema.values()))
    reference = schema.get("$ref")
    return found | {reference} if isinstance(reference, str) else found


def _find(schema: dict[str, Any], reference: str) -> Any:
    """Return what a reference stands for within its schema, None for what stands elsewhere."""
    path, place = reference.removeprefix("#"), schema
    if not reference.startswith("#") or (path and not path.startswith("/")):
        return None
    for step in path.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        try:
            place = place[int(name)] if isinstance(place, list) else place[name]
        except (ValueError, LookupError, TypeError):
            return None
    return place
