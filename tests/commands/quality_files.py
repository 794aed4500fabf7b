"""The export and the plot as the command ``quality`` runs them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from include.cli import Parser
from include.commands import quality_export, quality_plot


def arguments(*words: str) -> argparse.Namespace:
    """Return parsed arguments."""
    parser = Parser(prog="quality")
    parser.add_argument("--from", dest="first")
    parser.add_argument("--to", dest="last")
    parser.add_argument("--json", action="store_true")
    quality_export.add_arguments(parser)
    quality_plot.add_arguments(parser)
    return parser.parse_args(words)


def export(words: Sequence[str]) -> int:
    """Run an export."""
    return quality_export.run_export(arguments(*words))


def plot(words: Sequence[str]) -> int:
    """Run a plot."""
    return quality_plot.run_plot(arguments(*words))
