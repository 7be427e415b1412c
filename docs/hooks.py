"""Hooks of mkdocs: make the generated pages and parts of pages at build time, so that none of them can be out of date.

`<!-- generated: NAME -->` on a page is replaced by the text of the function NAME in `PARTS`. The links of the Markdown
files work on GitHub; `_target` turns them into links of the site.
"""

import ast
import json
import re
import tomllib
from html import escape
from itertools import chain
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

import griffe
from drawing import draw, imports, rows
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from traitlets.config import Config
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import bankllm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN = "outputs/reference"
NOTEBOOKS = sorted(ROOT.glob(f"{RUN}/notebooks/*.ipynb"))
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "deploy/README.md": "guides/containers.md",
    f"{RUN}/RESULTS.md": "results.md",
}
"""Markdown files outside of docs/ → their pages."""
HIDDEN = {
    "index.md": ["navigation"],
    "architecture.md": ["navigation"],
    "results.md": ["toc"],
    "reference/settings.md": ["toc"],
}
"""Columns that a page leaves out: a list of one page, and the contents beside wide tables."""
PACKAGES = {
    ".".join(init.parent.relative_to(ROOT).parts): sorted(path.stem for path in init.parent.glob("[!_]*.py"))
    for init in sorted(ROOT.glob("bankllm/**/__init__.py"))
}
"""Each folder of the package → its modules."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    sections = {title: children for entry in config.nav for title, children in entry.items()}
    sections["Notebooks"] += [{_title(path): f"notebooks/{path.stem}.md"} for path in NOTEBOOKS]
    sections["Reference"] += [{name.removeprefix("bankllm."): f"reference/{name}.md"} for name in PACKAGES]
    return config


def _title(path: Path) -> str:
    metadata = json.loads((ROOT / "notebooks" / path.name).read_bytes())["metadata"]
    return f"{int(path.name[:2])} {metadata['bankllm']['title']}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made: dict[str, str | bytes] = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    for name, modules in PACKAGES.items():
        names = "\n<!-- generated: public_names -->\n" if name == "bankllm" else ""
        text = f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n{names}"
        for module in modules:
            text += f"\n::: {name}.{module}\n"
            if module in ("cli", "commands"):  # the page of the command line has its functions
                text += "    options:\n      members: false\n"
        made[f"reference/{name}.md"] = text
    exporter = MarkdownExporter(config=Config({"TagRemovePreprocessor": {"remove_cell_tags": {"colab"}}}))
    exporter.register_preprocessor(TagRemovePreprocessor, enabled=True)
    for path in NOTEBOOKS:
        text, resources = exporter.from_filename(str(path), {"output_files_dir": path.stem})
        text = re.sub(r'<table border="1" class="dataframe">', "<table>", text)  # then the theme styles it
        note = "\n\n*Executed in the [reference run](RESULTS.md).*\n"
        made[f"notebooks/{path.stem}.md"] = text.strip().replace("\n", note, 1)
        made |= {f"notebooks/{image}": content for image, content in resources["outputs"].items()}
    made |= {f"plots/{path.name}": path.read_bytes() for path in ROOT.glob(f"{RUN}/plots/*.png")}
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    page.meta["hide"] = HIDDEN.get(here, [])
    sources = {made: source for source, made in PAGES.items()}
    source = f"{RUN}/RESULTS.md" if here.startswith("notebooks/") else sources.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        is_page = files.get_file_from_path(normpath(join(dirname(here), match[0].partition("#")[0])))
        # a notebook names its rows by their path in the run, and other files by the path from notebooks/
        beside = here if here.startswith("notebooks/") and match[0].startswith("../") else source
        return match[0] if is_page else _target(match[0], beside, here)

    markdown = re.sub(r"(?m)^\|.*\]\[", lambda match: match[0].replace("][", "]\\["), markdown)  # is no reference
    markdown = re.sub(r"(?m)^## `(\w+\.py)`.*", _with_docstring, markdown) if here == "benchmarks.md" else markdown
    markdown = re.sub(r"(?m)^\[!\[ci\].*\n", "", markdown)
    markdown = re.sub(r"\[!(\[[^]]*\])\(https?:[^)]*\)\]", r"\1", markdown)  # a badge would load from another host
    markdown = re.sub(r"<!-- generated: (\w+) -->", lambda match: PARTS[match[1]](), markdown)
    return re.sub(r"(?<=\]\()(?![a-z]+:|#)[^)\s]+", link, markdown)


def _target(link: str, source: str, here: str) -> str:
    """The link on the page `here` for one of its Markdown file, whose path in the repository is `source`."""
    path, hash_sign, anchor = link.partition("#")
    path = normpath(join(dirname(source), path))
    module = path.removesuffix(".py").replace("/", ".")
    package = module.rpartition(".")[0]
    if package in PACKAGES:
        return relpath(f"reference/{package}.md#{module}", dirname(here))
    if path.endswith(".ipynb"):
        path = f"docs/notebooks/{Path(path).stem}.md"
    elif path not in PAGES and not path.startswith("docs/") and (ROOT / path).exists():
        return f"{PROJECT['project']['urls']['Repository']}/blob/main/{path}{hash_sign}{anchor}"
    return relpath(PAGES.get(path, path.removeprefix("docs/")), dirname(here)) + hash_sign + anchor


def _with_docstring(heading: re.Match[str]) -> str:
    """The heading of a benchmark, with the docstring of the program below it; a command is a code block."""
    path = ROOT / "benchmarks" / heading[1]
    text = ast.get_docstring(ast.parse(path.read_bytes())) if path.exists() else ""
    return f"{heading[0]}\n\n" + re.sub(r"(?m)^(?=.*python benchmarks/)", "    ", text)


def commands() -> str:
    from bankllm.cli import app

    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="bankllm", title="All commands", indent=1)
    code = re.compile(r"(`[^`]*`|^\$ .*$)", re.MULTILINE)  # elsewhere, <…> is a placeholder and no HTML
    return "".join(part if i % 2 else escape(part, quote=False) for i, part in enumerate(code.split(text)))


def settings() -> str:
    from bankllm.settings import Settings

    documented = griffe.load("bankllm.settings", search_paths=[ROOT])["Settings"].members
    lines = ["| variable | meaning | default |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variables = getattr(field.validation_alias, "choices", [f"BANKLLM_{name.upper()}"])
        meaning = re.sub(r" \(`[A-Z0-9_]+(=1)?`\)", "", " ".join(documented[name].docstring.value.split()))
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| {'<br>'.join(f'`{variable}`' for variable in variables)} | {meaning} | {default} |")
    return "\n".join(lines)


def public_names() -> str:
    """The names of `import bankllm`, with the first sentences of their docstrings."""
    package = griffe.load("bankllm", search_paths=[ROOT])
    lines = ["## Names of `import bankllm`\n"]
    for name, module in sorted(bankllm._MODULE_OF.items()):
        target = f"{module}.{'load' if name == 'load_dataset' else name}"
        text = _first_sentence(package[target.removeprefix("bankllm.")])
        lines.append(f"- [`{name}`][{target}]: {text}")
    return "\n".join(lines)


def _first_sentence(item: griffe.Object | griffe.Alias) -> str:
    return " ".join(re.split(r"(?<=\.)\s|\n\n", item.docstring.value)[0].split()) if item.docstring else ""


def extras() -> str:
    """The extras, each with the comment above it in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    found = re.findall(r"^((?:# .*\n)*)(\w+) = \[", text, re.MULTILINE)
    rows = [f"| `{name}` | {' '.join(comment.replace('# ', '').split())} |" for comment, name in found]
    return "\n".join(["| extra | what it is for |", "|---|---|", *rows])


def folders() -> str:
    """The parts of the package in the order of the drawing, with the first sentence of their docstrings."""
    package = griffe.load("bankllm", search_paths=[ROOT])
    lines = ["| part | what it does |", "|---|---|"]
    for name in chain(*rows(imports())):
        lines.append(f"| [`{name}`]({_page(name)}) | {_first_sentence(package[name])} |")
    return "\n".join(lines)


def drawing() -> str:
    return draw(imports(), lambda name: _page(name).replace(".md", ".html"))


def _page(part: str) -> str:
    name = f"bankllm.{part}"
    return f"reference/{name}.md" if name in PACKAGES else f"reference/bankllm.md#{name}"


PARTS = {part.__name__: part for part in (commands, drawing, extras, folders, public_names, settings)}
