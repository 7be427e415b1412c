"""Hooks of mkdocs: make the generated pages and parts of pages at build time, so that none of them can be out of date.

`<!-- generated: NAME -->` on a page is replaced by the text of the function NAME in `PARTS`. The links of the Markdown
files work on GitHub; `_target` turns them into links of the site.
"""

import ast
import re
import tomllib
from html import escape
from itertools import permutations
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

import griffe
import grimp
import networkx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

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
PACKAGES = {
    ".".join(init.parent.relative_to(ROOT).parts): sorted(path.stem for path in init.parent.glob("[!_]*.py"))
    for init in sorted(ROOT.glob("bankllm/**/__init__.py"))
}
"""Each folder of the package → its modules."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    sections = {title: children for entry in config.nav for title, children in entry.items()}
    sections["Notebooks"] += [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]
    sections["Reference"] += [{name: f"reference/{name}.md"} for name in PACKAGES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made: dict[str, str | bytes] = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in PAGES.items()}
    for name, modules in PACKAGES.items():
        own = f"# {name}\n\n::: {name}\n    options:\n      show_root_heading: false\n"
        made[f"reference/{name}.md"] = own + "".join(f"\n::: {name}.{module}\n" for module in modules)
    for path in NOTEBOOKS:
        text, resources = MarkdownExporter().from_filename(str(path), {"output_files_dir": path.stem})
        text = re.sub(r'<table border="1" class="dataframe">', "<table>", text)  # then the theme styles it
        note = "\n\n*Executed in the [reference run](RESULTS.md).*\n"
        made[f"notebooks/{path.stem}.md"] = text.strip().replace("\n", note, 1)
        made |= {f"notebooks/{image}": content for image, content in resources["outputs"].items()}
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    sources = {made: source for source, made in PAGES.items()}
    source = f"{RUN}/RESULTS.md" if here.startswith("notebooks/") else sources.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        is_page = files.get_file_from_path(normpath(join(dirname(here), match[0].partition("#")[0])))
        return match[0] if is_page else _target(match[0], source, here)

    markdown = re.sub(r"(?m)^\|.*\]\[", lambda match: match[0].replace("][", "]\\["), markdown)  # is no reference
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


def commands() -> str:
    from bankllm.cli import app

    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=Context(command), name="bankllm", title="All commands", indent=1)
    code = re.compile(r"(`[^`]*`|^\$ .*$)", re.MULTILINE)  # elsewhere, <…> is a placeholder and no HTML
    return "".join(part if i % 2 else escape(part, quote=False) for i, part in enumerate(code.split(text)))


def settings() -> str:
    from bankllm.settings import Settings

    documented = griffe.load("bankllm.settings", search_paths=[ROOT])["Settings"].members
    parts = []
    for name, field in Settings.model_fields.items():
        variables = getattr(field.validation_alias, "choices", [f"BANKLLM_{name.upper()}"])
        meaning = re.sub(r" \(`[A-Z0-9_]+(=1)?`\)", "", " ".join(documented[name].docstring.value.split()))
        default = "" if field.default is None else f" Default: `{field.default}`."
        parts.append(f"## {' or '.join(f'`{variable}`' for variable in variables)}\n\n{meaning}{default}")
    return "\n\n".join(parts)


def benchmarks() -> str:
    texts = {path.name: ast.get_docstring(ast.parse(path.read_bytes())) for path in ROOT.glob("benchmarks/*.py")}
    parts = [f"### {name}\n\n{text}" for name, text in sorted(texts.items()) if "python benchmarks/" in text]
    return re.sub(r"(?m)^(?=.*python benchmarks/)", "    ", "\n\n".join(parts))  # a command is a code block


def drawing() -> str:
    """The imports between the folders of the package, without the arrows that a longer path implies."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    height = {name: 20 + 40 * line for line, name in enumerate(re.split(r"\W+", " ".join(layers)))}
    graph = grimp.build_graph("bankllm", cache_dir=None, exclude_type_checking_imports=True)
    imports = networkx.DiGraph()
    for pair in permutations(height, 2):
        importer, imported = (f"bankllm.{name}" for name in pair)
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True):
            imports.add_edge(*pair)
    parts = [f'<div class="imports"><svg viewBox="0 0 400 {40 * len(height)}" role="img" aria-label="Imports">']
    for importer, imported in networkx.transitive_reduction(imports).edges:
        start, end = height[importer] + 6, height[imported] - 6
        bend = 140 + 0.6 * (end - start)
        parts.append(f'<path d="M132,{start} C{bend},{start} {bend},{end} 132,{end} l7,-4 m-7,4 l7,4">')
        parts.append(f"<title>{importer} imports {imported}</title></path>")
    for name, y in height.items():
        parts.append(f'<rect x="2" y="{y - 15}" width="130" height="30" rx="6"/><text x="67" y="{y + 5}">{name}</text>')
    return "\n".join([*parts, "</svg></div>"])


PARTS = {part.__name__: part for part in (commands, settings, benchmarks, drawing)}
