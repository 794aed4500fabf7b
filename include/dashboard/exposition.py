"""
Prometheus' text format 0.0.4, written fast: https://prometheus.io/docs/instrumenting/exposition_formats/

`prometheus_client.generate_latest` takes some microseconds for each sample, which is seconds for ten thousand credentials;
decision 0012 has the numbers. Label sets that several families share are turned into text once, and a family is one
comprehension. What is written here, that library's parser reads back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Number = int | float

_ESCAPES = {"\\": "\\\\", "\n": "\\n", '"': '\\"'}
"""How a label's value has these; the backslash first."""


@dataclass(frozen=True)
class LabelSets:
    """
    Label sets over the same names, one for each series.

    Args:
        names: of the labels, as the format allows them.
        values: of each set, any text; no set twice.
    """

    names: tuple[str, ...]
    values: Sequence[tuple[str, ...]]

    @cached_property
    def texts(self) -> list[str]:
        """Each set as the format has it, in braces; empty without labels."""
        if not self.names:
            return [""] * len(self.values)
        pattern = "{" + ",".join(f'{name}="%s"' for name in self.names) + "}"
        everything = "".join(chain.from_iterable(self.values))
        if any(special in everything for special in _ESCAPES):
            escaped = _Escaped().__getitem__
            return [pattern % tuple(map(escaped, values)) for values in self.values]
        return list(map(pattern.__mod__, self.values))


@dataclass(frozen=True, slots=True)
class Samples:
    """
    The samples of one name.

    Args:
        labels: of each.
        values: of each; None: there is no such series.
        suffix: what the family's name is followed by: ``_sum``, ``_count``, or nothing.
    """

    labels: LabelSets
    values: Sequence[Number | None]
    suffix: str = ""

    @property
    def series(self) -> int:
        """How many there are."""
        return len(self.values) - self.values.count(None)


@dataclass(frozen=True, slots=True)
class Buckets:
    """
    The samples of a histogram: one for each bound, ``_sum`` and ``_count`` of each label set.

    Args:
        labels: of each, without ``le``.
        bounds: upper bounds as ``le`` has them, ascending; the last is ``+Inf``.
        counts: how many lie within each bound and above the one before it, by label set.
        sums: of the values, by label set.
    """

    labels: LabelSets
    bounds: tuple[str, ...]
    counts: Sequence[Sequence[int]]
    sums: Sequence[Number]

    @property
    def series(self) -> int:
        """How many there are."""
        return len(self.counts) * (len(self.bounds) + 2)


@dataclass(frozen=True, slots=True)
class Family:
    """
    One metric as Prometheus knows it.

    Args:
        name: in full, ``_total`` and unit included.
        kind: its type.
        help: one sentence.
        samples: one entry; two for a summary.
    """

    name: str
    kind: Literal["counter", "gauge", "summary", "histogram"]
    help: str
    samples: tuple[Samples | Buckets, ...]

    @property
    def series(self) -> int:
        """How many series it has."""
        return sum(samples.series for samples in self.samples)


def within_cap(families: Sequence[Family], *, cap: int) -> tuple[list[Family], int]:
    """
    Return the families that fit, and how many series are left out.

    Whole families are left out, from the end: half of one would be wrong sums. The same figures always lose the same.

    Args:
        families: the most important first.
        cap: as many series, at most.
    """
    kept = list(families)
    series = total = sum(family.series for family in kept)
    while kept and series > cap:
        series -= kept.pop().series
    return kept, total - series


def written(families: Iterable[Family]) -> bytes:
    """Return the exposition; a family without series is left out."""
    return b"".join(map(_family, families))


def _family(family: Family) -> bytes:
    if not family.series:
        return b""
    # Not escaped as label values are: the format knows no quotes here.
    told = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {family.name} {told}\n# TYPE {family.name} {family.kind}\n"]
    for samples in family.samples:
        lines += _buckets(family.name, samples) if isinstance(samples, Buckets) else _lines(family.name, samples)
    return "".join(lines).encode()


def _lines(family: str, samples: Samples) -> list[str]:
    name = family + samples.suffix
    # repr is the shortest text that reads back as the same number.
    return [
        f"{name}{labels} {value!r}\n"
        for labels, value in zip(samples.labels.texts, samples.values, strict=True)
        if value is not None
    ]


def _buckets(name: str, samples: Buckets) -> list[str]:
    # All lines of a label set at once: they are many, and differ in nothing but their numbers.
    block = "".join(f'{name}_bucket%sle="{bound}"}} %d\n' for bound in samples.bounds)
    block += f"{name}_sum%s %r\n{name}_count%s %d\n"
    lines = []
    for labels, total, counts in zip(samples.labels.texts, samples.sums, samples.counts, strict=True):
        within = list(accumulate(counts))
        values: list[str | Number] = [f"{labels[:-1]}," if labels else "{"] * (2 * len(within))
        values[1::2] = within
        lines.append(block % (*values, labels, total, labels, within[-1]))
    return lines


class _Escaped(dict[str, str]):
    """A label's values as they stand between quotes; few different ones repeat many times."""

    def __missing__(self, value: str) -> str:
        text = value
        for special, told in _ESCAPES.items():
            text = text.replace(special, told)
        self[value] = text
        return text
