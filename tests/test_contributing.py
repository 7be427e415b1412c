"""Each section of CONTRIBUTING.md works as it is written, in a package outside of bankllm."""

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


def install(section: str, folder: Path) -> str:
    """Write the blocks of a section as an installed distribution into the folder. Returns the name of its test file."""
    blocks = BLOCK.findall(section)
    languages = [language for language, _ in blocks]
    assert languages in (["python", "toml", "python"], ["python", "python"]), "expected a part, its entry point, a test"
    for language, source in blocks:
        if language == "toml":
            information = folder / "my_package-1.0.dist-info"
            information.mkdir()
            (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
            groups = tomllib.loads(source)["project"]["entry-points"]
            lines = [
                f"[{group}]\n" + "".join(f"{n} = {p}\n" for n, p in parts.items()) for group, parts in groups.items()
            ]
            (information / "entry_points.txt").write_text("".join(lines))
        else:
            path = folder / source.splitlines()[0].removeprefix("# ")
            assert path.suffix == ".py", "the first line of a python block is a comment with the file's path"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
    assert path.name.startswith("test_")
    return path.name


@pytest.mark.slow
@pytest.mark.parametrize("kind", SECTIONS)
def test_the_example_of_a_section_works(kind: str, tmp_path: Path) -> None:
    test = install(SECTIONS[kind], tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
