"""Measurements, side by side with peers. Each folder is a program: `python -m bench.fleet --help`."""
