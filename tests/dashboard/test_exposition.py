"""The text format: what is written reads back, by Prometheus' own Python parser, as what its own writer writes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from include.dashboard.exposition import Buckets, Family, LabelSets, Samples, within_cap, written
from include.simulation.bench_metrics import library_text
from tests.dashboard.planted_metrics import parsed

TEXTS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
# Above 2**53 the parser's floats have no room for all digits.
NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
)


def gauge(name: str, *values: float | None, labels: LabelSets | None = None) -> Family:
    """Return a gauge whose series are numbered."""
    sets = labels or LabelSets(("n",), [(str(number),) for number in range(len(values))])
    return Family(name, "gauge", "Help.", (Samples(sets, values),))


@st.composite
def families(draw: st.DrawFn) -> list[Family]:
    """Families of every kind over any label values."""
    made = []
    for number, kind in enumerate(
        draw(st.lists(st.sampled_from(["counter", "gauge", "summary", "histogram"]), max_size=4))
    ):
        names = tuple(f"label_{place}" for place in range(draw(st.integers(0, 3))))
        values = draw(st.lists(st.tuples(*[TEXTS for _ in names]), unique=True, max_size=4))
        sets = LabelSets(names, values)
        help_text = draw(TEXTS).strip()

        def column(strategy: st.SearchStrategy[float | None], size: int = len(values)) -> list[float | None]:
            return draw(st.lists(strategy, min_size=size, max_size=size))

        optional = st.none() | NUMBERS
        name = f"some_{number}"
        if kind == "histogram":
            counts = draw(st.lists(st.tuples(*[st.integers(0, 2**40)] * 3), min_size=len(values), max_size=len(values)))
            sums = [number or 0.0 for number in column(NUMBERS)]
            made.append(Family(name, "histogram", help_text, (Buckets(sets, ("0.5", "1", "+Inf"), counts, sums),)))
        elif kind == "summary":
            timed = column(optional)
            both = (Samples(sets, timed, "_sum"), Samples(sets, [each and 2 for each in timed], "_count"))
            made.append(Family(name, "summary", help_text, both))
        elif kind == "counter":
            made.append(Family(f"{name}_total", "counter", help_text, (Samples(sets, column(optional)),)))
        else:
            made.append(Family(name, "gauge", help_text, (Samples(sets, column(optional)),)))
    return made


@given(families())
def test_what_is_written_is_what_the_library_writes(made: list[Family]) -> None:
    """The same series with the same values, types and help, whatever the labels say."""
    ours, theirs = written(made).decode(), library_text(made).decode()

    assert parsed(ours) == parsed(theirs)
    told = [(family.name, family.type, family.documentation) for family in text_string_to_metric_families(ours)]
    assert told == [
        (family.name, family.type, family.documentation) for family in text_string_to_metric_families(theirs)
    ]


def test_the_format_to_the_letter() -> None:
    """One of each kind, with what must be escaped."""
    sets = LabelSets(("a", "b"), [("1", 'quo"te'), ("2", "back\\slash\nline")])
    made = [
        Family("runs_total", "counter", 'Help "quoted"\nand \\ more.', (Samples(sets, [2**60, None]),)),
        gauge("level", 0.1, None, -3),
        Family("took_seconds", "summary", "S.", (Samples(sets, [1.5, 2], "_sum"), Samples(sets, [1, 2], "_count"))),
        Family("wait", "histogram", "H.", (Buckets(LabelSets((), [()]), ("0.5", "+Inf"), [(2, 3)], [7.25]),)),
        gauge("none"),
    ]

    assert written(made).decode() == (
        '# HELP runs_total Help "quoted"\\nand \\\\ more.\n# TYPE runs_total counter\n'
        'runs_total{a="1",b="quo\\"te"} 1152921504606846976\n'
        "# HELP level Help.\n# TYPE level gauge\n"
        'level{n="0"} 0.1\nlevel{n="2"} -3\n'
        "# HELP took_seconds S.\n# TYPE took_seconds summary\n"
        'took_seconds_sum{a="1",b="quo\\"te"} 1.5\ntook_seconds_sum{a="2",b="back\\\\slash\\nline"} 2\n'
        'took_seconds_count{a="1",b="quo\\"te"} 1\ntook_seconds_count{a="2",b="back\\\\slash\\nline"} 2\n'
        "# HELP wait H.\n# TYPE wait histogram\n"
        'wait_bucket{le="0.5"} 2\nwait_bucket{le="+Inf"} 5\nwait_sum 7.25\nwait_count 5\n'
    )


def test_a_family_without_series_is_not_written() -> None:
    """A type without a sample would say that there is something."""
    assert written([gauge("none"), gauge("nothing", None)]) == b""


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_as_itself(number: float) -> None:
    """To the last bit."""
    (value,) = parsed(written([gauge("g", number)]).decode()).values()

    assert value == number
    assert math.copysign(1, value) == math.copysign(1, number)


@pytest.mark.parametrize(
    ("cap", "kept", "dropped"),
    [
        pytest.param(6, ["a", "b", "c"], 0, id="exactly at the cap fits"),
        pytest.param(5, ["a", "b"], 1, id="the last family goes first"),
        pytest.param(4, ["a"], 3, id="and whole: two of three series would be a wrong sum"),
        pytest.param(2, [], 6, id="not even the first fits"),
        pytest.param(0, [], 6, id="nothing"),
    ],
)
def test_families_are_dropped_whole(cap: int, kept: list[str], dropped: int) -> None:
    """From the end; series that are absent count for nothing."""
    made = [gauge("a", 1, 2, 3), gauge("b", None, 1, 2), gauge("c", 1)]

    found, left_out = within_cap(made, cap=cap)

    assert ([family.name for family in found], left_out) == (kept, dropped)


def test_a_histogram_counts_every_line() -> None:
    """Each bound is a series, and so are sum and count."""
    family = Family(
        "h", "histogram", "H.", (Buckets(LabelSets(("a",), [("1",), ("2",)]), ("1", "+Inf"), [(1, 2)] * 2, [1, 2]),)
    )

    assert family.series == len([line for line in written([family]).splitlines() if not line.startswith(b"#")])
