"""Programs, servers and models that several tests use. Fixtures are in the `conftest.py` files."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
BENCHMARKS = ROOT / "benchmarks"
SUPPORT = Path(__file__).parent
