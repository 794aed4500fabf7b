"""A misspelt Param is refused, and what was probably meant is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration import check_tasks, quality_backfill
from include.orchestration.check_tasks import RunFacts, due_addresses, evaluate
from include.orchestration.quality_backfill import plan_months
from include.orchestration.run_params import require_known_params, unknown_params
from include.sync_health.errors import RequestError
from tests.orchestration.quality_history import NOW

BACKFILL = "use from, to, days, dry_run"
CHECKING = "use credential, environment, window_end, notify"


def facts(**params: Any) -> RunFacts:
    """Return those of a run by hand, at the present moment."""
    return RunFacts(params=params, interval=(None, None), run_after=NOW, is_backfill=False, last_try=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("dryrun", f"unknown Param 'dryrun'; did you mean dry_run? {BACKFILL}", id="a line too little"),
        pytest.param("dry-run", f"unknown Param 'dry-run'; did you mean dry_run? {BACKFILL}", id="as in a shell"),
        pytest.param("Dry Run", f"unknown Param 'Dry Run'; did you mean dry_run? {BACKFILL}", id="as in the form"),
        pytest.param("until", f"unknown Param 'until'; {BACKFILL}", id="another word for it"),
        pytest.param("TO", f"unknown Param 'TO'; did you mean to? {BACKFILL}", id="in capitals"),
        pytest.param("", f"unknown Param ''; {BACKFILL}", id="no name at all"),
        pytest.param("x" * 90, f"unknown Param '{'x' * 40}'; {BACKFILL}", id="a key as long as a text"),
        pytest.param("a\nb", f"unknown Param 'a\\nb'; {BACKFILL}", id="a key of two lines"),
    ],
)
def test_a_backfill_refuses_before_it_looks_at_anything(name: str, says: str) -> None:
    """No connection is there: it does not get so far."""
    with pytest.raises(RequestError) as refused:
        plan_months({"from": "2026-03-01", "to": None, "days": "all", "dry_run": False, name: True}, now=NOW)

    assert str(refused.value) == says


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("notfy", f"unknown Param 'notfy'; did you mean notify? {CHECKING}", id="a letter too little"),
        pytest.param(
            "credentials", f"unknown Param 'credentials'; did you mean credential? {CHECKING}", id="a letter too much"
        ),
        pytest.param("dry_run", f"unknown Param 'dry_run'; {CHECKING}", id="a Param of another DAG"),
    ],
)
def test_a_check_refuses_and_sends_nothing_of_earlier_runs(
    name: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was meant may have been to keep quiet; what is due waits for the next run."""
    with pytest.raises(RequestError) as refused:
        evaluate(facts(notify="auto", **{name: "never"}), now=NOW)

    assert str(refused.value) == says
    with caplog.at_level("INFO", logger="servicetitan.check_tasks"):
        assert due_addresses("slack", facts(notify="auto", **{name: "never"}), mode=None, now=NOW) == []
    assert "this run has an unknown Param" in caplog.text


def test_several_mistakes_are_one_error() -> None:
    with pytest.raises(RequestError) as refused:
        require_known_params(["from", "dryrun", "untill", "dry_runs"], known=quality_backfill.PARAMS)

    assert str(refused.value) == (f"unknown Params 'dryrun', 'untill', 'dry_runs'; did you mean dry_run? {BACKFILL}")


@given(st.lists(st.sampled_from([*quality_backfill.PARAMS, *check_tasks.PARAMS, "other"]), unique=True))
def test_what_is_known_passes_and_nothing_else(names: list[str]) -> None:
    """Whatever else is there, and in whichever order."""
    known = quality_backfill.PARAMS
    if unknown := [name for name in names if name not in known]:
        with pytest.raises(RequestError) as refused:
            require_known_params(names, known=known)
        assert all(repr(name) in str(refused.value) for name in unknown)
    else:
        require_known_params(names, known=known)
    assert unknown_params(names, known=known) == unknown
