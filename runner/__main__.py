"""``python -m runner``."""

from runner.cli import script

script()
