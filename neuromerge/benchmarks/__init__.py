"""Benchmarks: commands that print figures, never tests. ``python -m neuromerge.benchmarks --help`` lists them."""
