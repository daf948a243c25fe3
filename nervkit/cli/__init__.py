"""The command line: one thin module per command."""

from nervkit.cli.app import main

__all__ = ["main"]
