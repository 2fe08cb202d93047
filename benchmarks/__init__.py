"""Measurements against peers and floors on the same machine in the same run: ``python -m benchmarks``.

Only ratios count.
"""

import sys
from pathlib import Path

# the samples of the tests are used here, and find each other by their folder
sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
