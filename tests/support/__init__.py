"""Programs, servers and models that several tests use. Fixtures are in the `conftest.py` files."""

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
Cli = Callable[..., subprocess.CompletedProcess[str]]
"""Type of the fixture `bankllm`."""
