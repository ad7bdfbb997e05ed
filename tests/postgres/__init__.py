"""PostgreSQL servers that tests may break, and the tests that need one."""

import sys
from pathlib import Path

# `local_postgres` lies there, for the examples have to work without the tests.
sys.path.append(str(Path(__file__).parents[2] / "examples"))
