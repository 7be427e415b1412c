"""The documentation site: it builds without warnings and without a network, and no link or asset of it is dead."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bankllm.cli import app
from bankllm.settings import Settings

ROOT = Path(__file__).parents[1]
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}

pytestmark = pytest.mark.slow


class Parsed(HTMLParser):
    """The links, the loaded files and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loaded += [values[name] for name in ("src", "href") if name in values and tag in ("script", "img", "link")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Parsed]:
    """The pages of the built site, by their files."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | NO_NETWORK, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Parsed(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_every_link_leads_to_a_page_and_an_anchor(site: dict[Path, Parsed]) -> None:
    dead = []
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in site and anchor not in site[target].anchors):
                dead.append(f"{path.name}: {link}")
    assert dead == []
    assert sum(len(page.links) for page in site.values()) > 1000


def test_a_page_loads_nothing_from_another_host(site: dict[Path, Parsed]) -> None:
    assert [link for page in site.values() for link in page.loaded if urlsplit(link).netloc] == []
    assert any(page.loaded for page in site.values())


def test_links_to_the_repository_name_files_that_exist(site: dict[Path, Parsed]) -> None:
    found = {link for page in site.values() for link in page.links if "github.com/bankllm/bankllm/blob/main/" in link}
    assert [link for link in found if not (ROOT / urlsplit(link).path.split("/blob/main/")[1]).exists()] == []
    assert found


def test_the_generated_pages_cover_the_package(site: dict[Path, Parsed]) -> None:
    anchors = {anchor for path, page in site.items() if path.parent.name == "reference" for anchor in page.anchors}
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("bankllm/**/[!_]*.py")]
    assert [name for name in names if name not in anchors] == []
    assert {
        f"bankllm-{command.callback.__name__}" for command in app.registered_commands if command.callback
    } <= anchors
    settings = next(path for path in site if path.name == "settings.html").read_text(encoding="utf-8")
    assert all(f"BANKLLM_{name.upper()}" in settings for name in Settings.model_fields)


def test_the_drawing_shows_each_part_above_those_that_it_imports(site: dict[Path, Parsed]) -> None:
    text = next(path for path in site if path.name == "architecture.html").read_text(encoding="utf-8")
    height = {name: int(y) for y, name in re.findall(r'<text [^>]*y="(\d+)">(\w+)</text>', text)}
    assert {path.parent.name for path in ROOT.glob("bankllm/*/__init__.py")} <= height.keys()
    imports = dict(re.findall(r"<title>(\w+) imports (\w+(?:, \w+)*)</title>", text))
    assert imports["serving"] == "assistant, telemetry"
    assert [name for name in imports for other in imports[name].split(", ") if height[name] >= height[other]] == []


def test_each_benchmark_has_its_description(site: dict[Path, Parsed]) -> None:
    page = next(path for path in site if path.name == "benchmarks.html").read_text(encoding="utf-8")
    programs = [path.name for path in ROOT.glob("benchmarks/*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert [name for name in programs if name not in page] == []
    assert "Training time to reach a test accuracy on full Banking77" in page  # a docstring
