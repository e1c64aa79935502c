"""What an answer must be like: a JSON schema or some choices, out of the many fields that can say so."""

from __future__ import annotations

from collections.abc import Mapping

from llmpar.batches.fields import Fields, parse_json, shown
from llmpar.batches.parameters import INFORMATIVE_IN_CONSTRAINT, NEUTRAL_IN_CONSTRAINT

Schema = Mapping[str, object]


def read_constraint(body: Fields) -> tuple[Schema | None, tuple[str, ...]]:
    """Return the schema and the choices of an answer; one of them at most is given, in any of the ways there are."""
    schemas = [_read_response_format(body), _read_schema(body, "guided_json")]
    choices = [_read_choices(body, "guided_choice")]
    if outputs := body.take_object("structured_outputs"):
        schemas += [_read_schema(outputs, "json"), _any_object() if outputs.take_flag("json_object") else None]
        choices.append(_read_choices(outputs, "choice"))
        outputs.close(NEUTRAL_IN_CONSTRAINT, INFORMATIVE_IN_CONSTRAINT)
    given_schemas = [schema for schema in schemas if schema is not None]
    given_choices = [texts for texts in choices if texts]
    if len(given_schemas) + len(given_choices) > 1:
        reason = "and the other ways to constrain an answer exclude each other; keep one"
        body.refuse("response_format", reason, "invalid_value")
    return next(iter(given_schemas), None), next(iter(given_choices), ())


def _read_response_format(body: Fields) -> Schema | None:
    response_format = body.take_object("response_format")
    if response_format is None:
        return None
    kind = response_format.require("type")
    schema: Schema | None = _any_object() if kind == "json_object" else None
    if kind == "json_schema":
        response_format.require("json_schema")
        if named := response_format.take_object("json_schema"):
            named.require("schema")
            schema = _read_schema(named, "schema")
            named.close({}, ("name", "description", "strict"))  # a schema is always followed strictly
    elif kind not in ("text", "json_object"):
        reason = f"{shown(kind)} is not supported; it can be text, json_object or json_schema"
        response_format.refuse("type", reason, "unsupported_value")
    response_format.close({"json_schema": ()})
    return schema


def _read_schema(fields: Fields, name: str) -> Schema | None:
    """Return a field that is a JSON schema, or the text of one."""
    schema = fields.take(name)
    if isinstance(schema, str):
        try:
            schema = parse_json(schema)
        except ValueError as error:
            fields.refuse(name, f"is a text that cannot be read: {error}", "invalid_value")
    if schema is not None and not isinstance(schema, dict):
        fields.refuse(name, f"must be a JSON schema, which is an object, not {shown(schema)}", "invalid_type")
    return schema


def _read_choices(fields: Fields, name: str) -> tuple[str, ...]:
    if isinstance(fields.take(name), str):
        fields.refuse(name, "must be a list of strings", "invalid_type")
    choices = fields.take_texts(name)
    if fields.take(name) == []:
        fields.refuse(name, "must hold a choice", "invalid_value")
    return choices


def _any_object() -> Schema:
    return {"type": "object"}
