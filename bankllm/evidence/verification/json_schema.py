"""A minimal JSON Schema validator: the keywords that the schemas in `schema/` use.

Standard library only: this module is part of the `verify.py` that every run contains, which has no pydantic.
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
"""JSON type → Python types."""


def parse_json(text: str) -> Any:
    """Parses strict JSON. Raises `ValueError` for NaN, Infinity and a duplicate key, which `json.loads` accepts."""
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_reject_constant)


def validate(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, at: str = "") -> str | None:
    """Returns the first fault of a document and its place, or None if the document fits the schema.

    `root` is the schema that holds `$defs`, and `at` is the path of `value` in the document; callers omit both.
    Raises `RunError` if the schema uses a keyword that this module does not support.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        return validate(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    where = f" at {at}" if at else ""
    for keyword, wanted in schema.items():
        fault = None
        match keyword:
            case "title" | "description" | "default" | "$defs" | "$schema" | "$id" | "properties" | "prefixItems":
                pass
            case "type":
                if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
                    fault = f"expected {wanted}, found {json.dumps(value)[:40]}"
            case "const":
                if value != wanted or type(value) is not type(wanted):
                    fault = f"expected {wanted!r}, found {value!r}"
            case "enum":
                if value not in wanted:
                    fault = f"expected one of {', '.join(map(str, wanted))}, found {value!r}"
            case "anyOf":
                faults = [validate(value, choice, root, at) for choice in wanted]
                if None not in faults:
                    return faults[0]
            case "minimum":
                if isinstance(value, int | float) and value < wanted:
                    fault = f"expected {wanted} or more, found {value}"
            case "minItems" | "maxItems":
                if isinstance(value, list) and (len(value) < wanted if keyword == "minItems" else len(value) > wanted):
                    fault = f"expected {wanted} items, found {len(value)}"
            case "format" if wanted == "date-time":
                if isinstance(value, str) and not _is_time(value):
                    fault = f"expected an ISO 8601 time, found {value!r}"
            case "required":
                if isinstance(value, dict) and (missing := [name for name in wanted if name not in value]):
                    fault = f"missing {', '.join(missing)}"
            case "items" | "additionalProperties":
                pass
            case _:
                raise RunError(f"The schema uses {keyword!r}, which this verifier does not support.")
        if fault:
            return fault + where
    return _fault_inside(value, schema, root, at)


def _fault_inside(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> str | None:
    """Returns the first fault in the members of an object or the items of an array; None if there is none."""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts = [(name, item, properties.get(name, others)) for name, item in value.items()]
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        others = schema.get("items", True)
        parts = [(str(i), item, prefix[i] if i < len(prefix) else others) for i, item in enumerate(value)]
    for name, item, wanted in parts:
        here = f"{at}.{name}" if at else name
        if wanted is False:
            return f"{here} is not allowed by the schema"
        if wanted is not True and (fault := validate(item, wanted, root, here)):
            return fault
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has a duplicate key")
    return members


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
