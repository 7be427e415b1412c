"""Does a JSON document fit its published schema? The part of JSON Schema that the schemas in `schema/` use.

Standard library alone; a part of every run's own `verify.py`, where pydantic is not at hand.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bankllm.errors import RunError

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def parse_json(text: str) -> Any:
    """JSON as the standard has it: no NaN, and no key twice (of which a reader would see but one)."""
    return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)


def validate(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, at: str = "") -> str | None:
    """What does not fit, and where; None if all does. Raises `RunError` for a keyword that is not known here."""
    root = schema if root is None else root
    if "$ref" in schema:
        return validate(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    where = f" at {at}" if at else ""
    for keyword, wanted in schema.items():
        found = None
        match keyword:
            case "title" | "description" | "default" | "$defs" | "$schema" | "$id" | "properties" | "prefixItems":
                pass
            case "type":
                if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
                    found = f"expected {wanted}, found {json.dumps(value)[:40]}"
            case "const":
                if value != wanted or type(value) is not type(wanted):
                    found = f"expected {wanted!r}, found {value!r}"
            case "enum":
                if value not in wanted:
                    found = f"expected one of {', '.join(map(str, wanted))}, found {value!r}"
            case "anyOf":
                faults = [validate(value, choice, root, at) for choice in wanted]
                if None not in faults:
                    return faults[0]
            case "minimum":
                if isinstance(value, int | float) and value < wanted:
                    found = f"expected {wanted} or more, found {value}"
            case "minItems" | "maxItems":
                if isinstance(value, list) and (len(value) < wanted if keyword == "minItems" else len(value) > wanted):
                    found = f"expected {wanted} items, found {len(value)}"
            case "format" if wanted == "date-time":
                if isinstance(value, str) and not _is_time(value):
                    found = f"expected a time, found {value!r}"
            case "required":
                if isinstance(value, dict) and (missing := [name for name in wanted if name not in value]):
                    found = f"{', '.join(missing)} missing"
            case "items" | "additionalProperties":
                pass
            case _:
                raise RunError(f"The schema uses {keyword!r}, which this verifier does not know.")
        if found:
            return found + where
    return _fault_inside(value, schema, root, at)


def _fault_inside(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> str | None:
    """The first fault among the members of an object, or the items of an array."""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts = [(name, item, known.get(name, others)) for name, item in value.items()]
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        others = schema.get("items", True)
        parts = [(str(i), item, first[i] if i < len(first) else others) for i, item in enumerate(value)]
    for name, item, wanted in parts:
        here = f"{at}.{name}" if at else name
        if wanted is False:
            return f"{here} is not known"
        if wanted is not True and (found := validate(item, wanted, root, here)):
            return found
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
