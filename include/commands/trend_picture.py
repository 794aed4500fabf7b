"""The picture of a trend: scores with their interval and what is usual, and the volume below; drawn by matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from include.sync_health.quality_rollups import Period, roll_up
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL_WEEKS = 4
TITLE_LIMIT = 80

# Okabe and Ito's palette, told apart by the colour-blind: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"

BAR_WIDTH = 0.8  # days
MANY_DAYS = 120
"""From here on points and lines are finer."""

WIDE_INTERVALS = 0.1  # share of the days whose interval need not fit
LEAST_SPAN = 1.0
"""Points below 100 that are shown at least, so that noise does not look like a fall."""


def title_of(
    names: Mapping[str, str | None], *, credentials: Sequence[str] | None, data_types: Sequence[str] | None
) -> str:
    """
    Return whose quality it is, the company's name cleaned.

    Args:
        names: the credentials that are drawn, with the names of their companies.
        credentials, data_types: those asked for, each once; None or empty for all.
    """
    what = ", ".join(data_types) if data_types else "all data types"
    if not credentials:
        return f"Data quality of all {len(names)} credentials, {what}"
    if len(credentials) > 1:
        return f"Data quality of {len(credentials)} credentials, {what}"
    (credential,) = credentials
    known = names.get(credential)
    name = "company unknown" if known is None else clean(known, limit=TITLE_LIMIT)
    return f"Data quality of {name} (credential {clean(credential, limit=TITLE_LIMIT)}), {what}"


def trend_of(daily: pd.DataFrame, *, first: date, last: date) -> pd.DataFrame:
    """
    Return what is drawn: one row for each day from ``first`` to ``last``, with or without syncs.

    Columns: ``day``, ``score``, ``low``, ``high`` (percent; NaN: a gap), ``score_28`` (of the 28 days), ``usual`` (median of
    the same weekday in the four weeks before; NaN: of none is there a score), ``processed`` (records), ``is_final``.
    """
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    by_day = roll_up(daily, period=Period.DAY, by=()).set_index("last_day")
    scores = by_day["quality_score"].to_dict()
    before = [[scores.get(day - timedelta(weeks=back), np.nan) for back in range(1, USUAL_WEEKS + 1)] for day in days]
    shown = by_day.reindex(pd.Index(days, dtype=object))
    trailing = roll_up(daily, period=Period.DAYS_28, by=(), ends=days).set_index("last_day")
    return pd.DataFrame(
        {
            "day": pd.Series(days, dtype=object),
            "score": shown["quality_score"].to_numpy(np.float64),
            "low": shown["score_low"].to_numpy(np.float64),
            "high": shown["score_high"].to_numpy(np.float64),
            "score_28": trailing["quality_score"].reindex(pd.Index(days, dtype=object)).to_numpy(np.float64),
            "usual": pd.DataFrame(before, dtype=np.float64).median(axis=1).to_numpy(np.float64),
            "processed": shown["records_processed"].fillna(0).to_numpy(np.float64),
            "is_final": shown["is_final"].eq(True).to_numpy(bool),
        }
    )


def draw_trend(daily: pd.DataFrame, *, path: Path, title: str, first: date, last: date) -> None:
    """
    Write the picture of `trend_of` to a file, PNG or SVG by its name; the same numbers give the same bytes.

    Args:
        daily: `DAILY_COLUMNS`, or the sums that stand for them (`include.warehouse.day_sums`), from four weeks before
            ``first`` on.
        path: where to.
        title: plain text.
        first, last: the days to draw, both included.
    """
    import matplotlib as mpl

    trend = trend_of(daily, first=first, last=last)
    with mpl.rc_context({"svg.hashsalt": "quality-trend"}), warnings.catch_warnings():
        # A name in letters that the font lacks is drawn as boxes; the title has the credential too.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure = figure_of(trend, title=title)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else {"Software": None})


def figure_of(trend: pd.DataFrame, *, title: str) -> Figure:
    """Return the figure of `trend_of`: the scores above, the volume below."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it keeps figures, and asks for a display.
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        figure.suptitle(plain(title), fontsize=13, x=0.01, ha="left", parse_math=False)
        _draw_scores(upper, trend)
        _draw_volume(lower, trend)
    return figure


def plain(text: str) -> str:
    """Return a text on one line; it is drawn with ``parse_math`` off, so that ``$`` begins no formula."""
    return " ".join(text.split())


def _draw_scores(axes: Any, trend: pd.DataFrame) -> None:
    days = pd.to_datetime(trend["day"]).to_numpy()
    final = trend["is_final"].to_numpy(bool)
    scored = trend["score"].notna().to_numpy(bool)
    width, size = (1.2, 4) if len(trend) <= MANY_DAYS else (0.8, 2)
    axes.plot(days, trend["score"], color=BLUE, linewidth=width)
    axes.plot(days[scored & final], trend["score"][scored & final], "o", color=BLUE, markersize=size, label="day")
    if (scored & ~final).any():
        axes.plot(
            days[scored & ~final], trend["score"][scored & ~final], "o", color=BLUE, markerfacecolor="white",
            markersize=size + 1, label="day that may still change",
        )  # fmt: skip
    # A bar for each day, and no band: a band shows nothing of a day that has no score before and after it.
    axes.bar(
        days, trend["high"] - trend["low"], bottom=trend["low"], width=BAR_WIDTH, color=BLUE, alpha=0.25, linewidth=0,
        label="its 95 % interval", zorder=1,
    )  # fmt: skip
    axes.plot(days, trend["score_28"], color=ORANGE, linewidth=2, label="the 28 days up to it")
    axes.plot(
        days, trend["usual"], color=GREEN, linewidth=1.6, linestyle=(0, (1, 1.2)), zorder=2.5,
        label=f"usual for its weekday (of {USUAL_WEEKS} weeks)",
    )  # fmt: skip
    # A day of five records has an interval of forty points: the few that are so wide may run out of the picture.
    lowest = min(trend[["score", "score_28", "usual"]].min().min(), trend["low"].quantile(WIDE_INTERVALS))
    span = max(LEAST_SPAN, 0.0 if np.isnan(lowest) else 100 - lowest)
    axes.set_ylim(max(0.0, 100 - span * 1.08), 100 + span * 0.03)
    axes.set_ylabel("records that succeeded, %")
    _tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: not labels[place].startswith(("day", "its")))
    axes.legend(
        [handles[place] for place in order], [labels[place] for place in order],
        loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=9, borderaxespad=0.2,
        handlelength=1.8, columnspacing=1.6,
    )  # fmt: skip


def _draw_volume(axes: Any, trend: pd.DataFrame) -> None:
    from matplotlib.dates import DateFormatter
    from matplotlib.ticker import EngFormatter, MaxNLocator

    days = pd.to_datetime(trend["day"]).to_numpy()
    for final, style in _BARS.items():
        chosen = trend["is_final"].to_numpy(bool) == final
        axes.bar(days[chosen], trend["processed"][chosen], width=BAR_WIDTH, linewidth=0.8, edgecolor=GREY, **style)
    axes.set_ylim(0, max(1.0, trend["processed"].max() * 1.05))
    axes.set_ylabel("records")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))  # there is no half a record
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    half = np.timedelta64(12, "h")
    axes.set_xlim(days[0] - half, days[-1] + half)
    axes.xaxis.set_major_locator(_day_locator(len(days)))
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]
    _tidy(axes)


def _day_locator(count: int) -> Any:
    """Return where dates are written over that many days: at most nine or so, of a day each, or Mondays, or the first."""
    from matplotlib.dates import MO, AutoDateLocator, DayLocator, MonthLocator, WeekdayLocator

    if count <= 14:
        return DayLocator(interval=1 + count // 8)  # type: ignore[no-untyped-call]
    if count <= 140:
        return WeekdayLocator(byweekday=MO, interval=1 + count // 63)  # type: ignore[no-untyped-call]
    for months in (1, 2, 3, 6):
        if count <= months * 280:
            return MonthLocator(bymonth=range(1, 13, months))  # type: ignore[no-untyped-call]
    return AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]


_BARS: Mapping[bool, dict[str, Any]] = {True: {"color": GREY}, False: {"color": "white"}}


def _tidy(axes: Any) -> None:
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
