"""A JSON Schema as a grammar (GBNF) of JSON without spaces.

OpenVINO GenAI (xgrammar) reads JSON Schemas itself, but permits any number of spaces and line breaks between the parts.
The grammar ignores `maxLength`, because xgrammar compiles a bounded repetition for seconds, in every request. The
tokens of a request bound the text, and the reader of the JSON checks the length.
"""

import json
from collections.abc import Mapping
from typing import Any

from bankllm.errors import UsageError

CHARACTER = r"""char ::= [^"\\\x00-\x1f] | "\\" ["\\/bfnrt] | "\\u" [0-9a-f]{4}"""


def json_grammar(schema: Mapping[str, Any]) -> str:
    """Return the grammar. An object has its properties in the order of the schema, and the first one is required.

    Raises `UsageError` for a schema with anything but `const`, `enum`, `anyOf`, and the types object, array and string.
    """
    rules: dict[str, str] = {}
    root = _rule(schema, rules)
    named = "".join(f"{name} ::= {rule}\n" for name, rule in rules.items())
    return f"root ::= {root}\n{named}{CHARACTER}\n"


def _rule(schema: Mapping[str, Any], rules: dict[str, str]) -> str:
    """Return the rule of a schema. What is used several times becomes a named rule, which is compiled once."""
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return f"({' | '.join(map(_literal, schema['enum']))})"
    if "anyOf" in schema:
        return f"({' | '.join(_rule(one, rules) for one in schema['anyOf'])})"
    match schema.get("type"):
        case "string":
            name, many = ("words", "+") if schema.get("minLength") else ("text", "*")
            rules[name] = rf'"\"" char{many} "\""'
            return name
        case "array":
            item, most = f"item{len(rules)}", schema.get("maxItems", 0)
            rules[item] = _rule(schema["items"], rules)
            more = f'("," {item}){{0,{most - 1}}}' if most else f'("," {item})*'
            return f'"[" ({item} {more})? "]"'
        case "object" if next(iter(schema["properties"])) in schema.get("required", ()):
            parts: list[str] = []
            for name, value in schema["properties"].items():
                comma = '"," ' if parts else ""
                part = f'{comma}{_literal(name)} ":" {_rule(value, rules)}'
                parts.append(part if name in schema["required"] else f"({part})?")
            return f'"{{" {" ".join(parts)} "}}"'
    raise UsageError(
        f"Expected a schema of objects whose first property is required, arrays, strings, const, enum and anyOf; got "
        f"{json.dumps(schema)[:200]}."
    )


def _literal(value: object) -> str:
    return json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False)
