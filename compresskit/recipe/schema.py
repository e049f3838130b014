"""The JSON Schema of recipes, made from the same options as the flags. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from compresskit.options import Known
from compresskit.recipe.document import RECIPE_KEYS, STEP_KEYS
from compresskit.recipe.evaluation import KNOWN
from compresskit.recipe.recipe import NAME
from compresskit.recipe.seeds import LEAST, MOST
from compresskit.recipe.verbs import VERBS, key_of

SCHEMA_FILE = Path(__file__).with_name("recipe.schema.json")
"""The published schema; `compresskit recipes schema` prints what it has to hold."""


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a recipe."""
    definitions: dict[str, Any] = {}
    every = {name: each for verb in VERBS.values() for name, each in verb.options.items()}
    parts: Mapping[str, dict[str, Any]] = {
        "about": {"type": "string"},
        "options": _options(every, "any", definitions),
        "steps": {"type": "array", "items": _step(definitions)},
        "eval": _object({key_of(name): _described(each, _value(each)) for name, each in KNOWN.items()}),
    }
    properties = {key: {"description": told, **parts[key]} for key, told in RECIPE_KEYS.items()}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A recipe of compresskit"}
    return {
        **head,
        **_object(properties),
        "anyOf": [{"required": ["steps"]}, {"required": ["eval"]}],
        "$defs": definitions,
    }


def _step(definitions: dict[str, Any]) -> dict[str, Any]:
    """A step: what its options may be depends on its method."""
    parts: Mapping[str, dict[str, Any]] = {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "base": _one_or_several({"type": "string", "minLength": 1}),
        "method": {"enum": list(VERBS)},
        "seeds": {"type": "integer", "minimum": LEAST, "maximum": MOST},
        "options": {"type": "object"},
    }
    properties = {key: {"description": told, **parts[key]} for key, told in STEP_KEYS.items()}
    rules = [
        {
            "if": {"properties": {"method": {"const": verb.name}}, "required": ["method"]},
            "then": {"properties": {"options": _options(verb.options, verb.name, definitions)}},
        }
        for verb in VERBS.values()
    ]
    return {**_object(properties), "required": ["name", "base", "method"], "allOf": rules}


def _options(known: Mapping[str, Known], owner: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """What a mapping of options holds; each is defined once, and again for an `owner` that has it otherwise."""
    properties = {}
    for name, each in known.items():
        key, value = key_of(name), _described(each, _one_or_several(_value(each)))
        if definitions.setdefault(key, value) != value:
            definitions[f"{owner}.{key}"] = value
            properties[key] = {"$ref": f"#/$defs/{owner}.{key}"}
        else:
            properties[key] = {"$ref": f"#/$defs/{key}"}
    return _object(properties)


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _one_or_several(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _described(known: Known, value: dict[str, Any]) -> dict[str, Any]:
    return {"description": known.option.help, **value}


def _value(known: Known) -> dict[str, Any]:
    """What one value of an option may be."""
    own = _entry(known)
    return {"type": "array", "items": own} if known.is_list else own


def _entry(known: Known) -> dict[str, Any]:
    own = known.option
    if own.choices:
        numbers = [int(choice) for choice in own.choices if choice.isdigit()]
        return {"enum": numbers if known.kind is int else [*own.choices, *numbers]}
    if known.kind is bool:
        return {"type": "boolean"}
    if known.kind in (int, float):
        return {"type": "integer" if known.kind is int else "number", **_bounds(known)}
    is_number = float in get_args(known.kind) if get_origin(known.kind) is not None else False
    return {"type": ["number", "string"]} if is_number else {"type": "string"}


def _bounds(known: Known) -> dict[str, float]:
    own = known.option
    limits = {
        "minimum": own.least,
        "maximum": own.most,
        "exclusiveMinimum": own.above,
        "exclusiveMaximum": own.below,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
