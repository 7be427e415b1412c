"""A griffe extension: shows commands and Python examples in docstrings as code blocks."""

import ast
import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Puts fences around the examples, which the docstrings do not mark, and documents each name once."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        """Leaves an imported name to the page of the module that defines it."""
        if mod.exports:
            mod.exports = [name for name in mod.exports if not mod.members[str(name)].is_alias]

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n\n".join(map(_fenced, obj.docstring.value.split("\n\n")))


def _fenced(paragraph: str) -> str:
    if re.match(r"bankllm \w+ -|curl |python -", paragraph):
        return f"```bash\n{paragraph}\n```"
    try:
        statements = ast.parse(paragraph).body
    except SyntaxError:
        return paragraph
    is_prose = all(isinstance(statement, ast.Expr | ast.AnnAssign) for statement in statements)
    return paragraph if is_prose else f"```python\n{paragraph}\n```"
