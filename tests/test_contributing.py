"""Each section of CONTRIBUTING.md works as it stands there, in a package outside of bankllm."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS = dict(re.findall(r"^## Add an? ([^\n]+)\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install(section: str, folder: Path) -> Path:
    """Write the blocks of a section as an installed distribution into the folder. Returns the path of its test."""
    blocks = BLOCK.findall(section)
    assert [language for language, _ in blocks] == ["python", "toml", "python"], (
        "expected a part, its entry point, a test"
    )
    paths = []
    for source in (blocks[0][1], blocks[2][1]):
        path = folder / source.splitlines()[0].removeprefix("# ")
        assert path.suffix == ".py", "the first line of a python block is a comment with the file's path"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        paths.append(path)
    groups = tomllib.loads(blocks[1][1])["project"]["entry-points"]
    information = folder / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {part}\n" for name, part in parts.items())
        for group, parts in groups.items()
    ]
    (information / "entry_points.txt").write_text("".join(lines))
    assert paths[1].name.startswith("test_")
    return paths[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SECTIONS)
def test_the_example_of_a_section_works(kind: str, tmp_path: Path) -> None:
    test = install(SECTIONS[kind], tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


def test_a_section_without_its_three_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a part, its entry point, a test"):
        install("```python\n# a.py\n```\n", tmp_path)
