"""Measurements against peers and floors on the same machine in the same run: ``python -m benchmarks``.

Only ratios count.
"""
