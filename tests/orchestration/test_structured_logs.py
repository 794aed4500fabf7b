"""Lines of the log: what they carry, and what they must not."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration import structured_logs
from include.orchestration.structured_logs import (
    COUNTS_LIMIT,
    TEXT_LIMIT,
    DecisionLog,
    JsonLines,
    bound,
    configure_shell_log,
)
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.redacted_errors import LONGEST_CHAIN, without_secrets
from tests.sync_health.hostile_texts import SECRETS

PROJECT = Path(__file__).parents[2]
FINGERPRINT = "6bd92209efcce45eb0945496948126e020797549d540d52a7514419c640ea17e"
TOKEN = "xoxb-123456789012-abcdefABCDEF123456"

log = DecisionLog("servicetitan.tests")


@pytest.fixture
def written() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return what returns the lines written since, parsed; they are JSON on a stream, as in a shell."""
    stream = io.StringIO()
    handler = configure_shell_log({"SERVICETITAN_LOG_FORMAT": "json"}, stream=stream)
    assert handler is not None
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger = logging.getLogger("servicetitan")
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


Written = Callable[[], list[dict[str, Any]]]


def test_a_line_has_its_sentence_and_its_fields(written: Written) -> None:
    """Values keep their types, instants are told in UTC, and what has no value is left out."""
    berlin = timezone(timedelta(hours=1))
    log.info(
        "check_judged",
        "%(check)s until %(window_to)s: %(opened)s opened, %(verdicts)s",
        check="sync_failures",
        window_to=datetime(2026, 3, 10, 13, tzinfo=berlin),
        first_day=date(2026, 3, 10),
        opened=2,
        cause=None,
        dry_run=True,
        verdicts={"sync_failures.breach": 2},
    )

    (line,) = written()
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "level": "info",
        "event": "sync_failures until 2026-03-10T12:00:00+00:00: 2 opened, {'sync_failures.breach': 2}",
        "logger": "servicetitan.tests",
        "decision": "check_judged",
        "check": "sync_failures",
        "window_to": "2026-03-10T12:00:00+00:00",
        "first_day": "2026-03-10",
        "opened": 2,
        "dry_run": True,
        "verdicts": {"sync_failures.breach": 2},
    }


def test_a_sentence_with_a_percent_sign_in_a_value_is_told_as_it_is(written: Written) -> None:
    """It is filled in once; a field without a value is a dash."""
    log.info("nothing_sent", "%(note)s, %(cause)s", note="100 %s of %(check)d", cause=None)
    assert written()[0]["event"] == "100 %s of %(check)d, -"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("field", ["error", "reason", "note", "fingerprint", "channel", "policy_version", "check"])
def test_a_planted_secret_is_in_no_field_and_in_no_sentence(written: Written, field: Any, secret: Any) -> None:
    """Whichever field it was put into, with or without words around it; not even where shapes are trusted."""
    text, hidden = secret
    log.error("source_not_seen", f"it says %({field})s", **{field: text})
    log.error("source_not_seen", f"it says %({field})s", **{field: f"slack:{text}"})

    for line in written():
        assert hidden not in json.dumps(line, ensure_ascii=False)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        pytest.param("fingerprint", FINGERPRINT, True, id="a fingerprint stays, although it looks like a key"),
        pytest.param("error", FINGERPRINT, False, id="the same in a text does not"),
        pytest.param("fingerprint", FINGERPRINT + "0", False, id="what is no fingerprint does not in its field"),
        pytest.param("channel", "email:ops@example.com", True, id="the policy's address stays"),
        pytest.param("error", "mail to ops@example.com", False, id="an address in a text does not"),
        pytest.param("channel", "slack:#servicetitan-alerts", True, id="a channel by name stays"),
        pytest.param("channel", "slack:C0123456789", True, id="a channel by id stays"),
        pytest.param("channel", f"slack:{TOKEN}", False, id="a token where a channel belongs does not"),
        pytest.param("channel", f"slack:#ops {TOKEN}", False, id="nor one behind a channel"),
        pytest.param("policy_version", "0123456789ab", True, id="a policy's version stays"),
        pytest.param("credential_id", "0190c2d1-7a4e-7cc3-98c4-dc0c0c07398f", True, id="a UUID stays"),
    ],
)
def test_a_value_stays_as_it_is(written: Written, field: Any, value: str, kept: bool) -> None:
    """Or is masked."""
    log.info("note", "of it", **{field: value})
    assert (written()[0][field] == value) is kept


@given(
    st.dictionaries(
        st.sampled_from(["error", "note", "reason", "channel", "fingerprint", "check"]), st.text(max_size=3_000)
    ),
    st.dictionaries(st.text(max_size=200), st.integers(0, 10**9), max_size=120),
)
def test_a_line_is_one_line_of_bounded_size_whatever_is_put_into_it(texts: Any, counts: dict[str, int]) -> None:
    """Counts that are left out are in the sum of the others."""
    line = structured_logs._written({**texts, "counts": counts})

    assert all(len(str(line[name])) <= TEXT_LIMIT and "\n" not in str(line[name]) for name in texts)
    told = line["counts"]
    assert isinstance(told, dict)
    assert len(told) <= COUNTS_LIMIT + 1
    assert sum(told.values()) == sum(counts.values())


def test_the_smallest_counts_are_summed() -> None:
    """Forty stay, the largest."""
    told = structured_logs._counts({f"rule_{number:03}": number for number in range(100)})
    assert told["others"] == sum(range(60))
    assert sorted(told.values())[1:-1] == list(range(61, 100))
    assert sum(told.values()) == sum(range(100))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_left_out(value: float) -> None:
    """A collector refuses the whole line otherwise."""
    assert structured_logs._written({"wait_seconds": value}) == {}


def test_bound_fields_are_on_every_line_until_they_end(written: Written) -> None:
    """Also on one of plain `logging`, which the core writes; an inner value hides the outer one, and an error ends both."""

    def fail_within() -> None:
        with bound(check="sync_failures", mode="live"):
            with bound(mode="historical"):
                log.info("note", "inner", rule="stale_sync")
            logging.getLogger("servicetitan.core").warning("plain, with %s", f"token={TOKEN}")
            raise SourceError("away", cause="unreachable")

    with pytest.raises(SourceError):
        fail_within()
    log.info("note", "after")

    inner, plain, after = written()
    assert (inner["check"], inner["mode"], inner["rule"]) == ("sync_failures", "historical", "stale_sync")
    assert (plain["check"], plain["mode"]) == ("sync_failures", "live")
    assert "abcdefABCDEF" not in plain["event"]
    assert set(after) == {"timestamp", "level", "event", "logger", "decision"}


def test_fields_are_in_structlogs_context_while_a_line_is_written(caplog: pytest.LogCaptureFixture) -> None:
    """From there Airflow takes them; afterwards nothing of them is left."""
    from structlog.contextvars import get_contextvars

    seen: list[dict[str, Any]] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(dict(get_contextvars()))

    logger, handler = logging.getLogger("servicetitan.tests"), Watching()
    before = dict(get_contextvars())
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, logger="servicetitan"), bound(check="sync_failures"):
            log.info("note", "it", rule="stale_sync")
    finally:
        logger.removeHandler(handler)

    assert seen == [{**before, "check": "sync_failures", "decision": "note", "rule": "stale_sync"}]
    assert get_contextvars() == before


def test_an_exception_keeps_its_place_and_its_causes_and_loses_its_secrets(written: Written) -> None:
    """As a driver quotes the value that it could not read."""
    of_a_person = "@".join(("someone", "example.com"))  # the traceback quotes this file
    try:
        try:
            raise ValueError(f"invalid value: token={TOKEN} of {of_a_person}")
        except ValueError as error:
            raise psycopg.DataError(f"row (42, '{TOKEN}')") from error
    except psycopg.DataError:
        log.exception("source_not_read", "the source could not be read")

    (line,) = written()
    told = line["exception"]
    assert "abcdefABCDEF" not in json.dumps(line)
    assert of_a_person not in told
    assert "psycopg.DataError: row (42," in told
    assert "ValueError: invalid value" in told
    assert told.count("in test_an_exception_keeps_its_place") == 2
    assert line["level"] == "error"


def test_a_handler_of_airflow_gets_an_exception_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever formats the record, the original is not in it, and the class, place and cause are."""
    try:
        try:
            raise KeyError(TOKEN)
        except KeyError as error:
            raise ValueError(f"password={TOKEN}") from error
    except ValueError:
        log.exception("source_not_read", "the source could not be read")

    (record,) = caplog.records
    assert record.exc_info is not None
    kind, shown, traceback = record.exc_info
    assert kind is type(shown)
    assert (kind.__name__, kind.__module__, str(shown)) == ("ValueError", "builtins", "password=‹redacted›")
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_name == "test_a_handler_of_airflow_gets_an_exception_without_secrets"
    assert shown.__cause__ is not None
    assert (type(shown.__cause__).__name__, str(shown.__cause__)) == ("KeyError", "'‹redacted›'")


def test_an_exception_that_leads_back_to_itself_or_has_no_text_is_told() -> None:
    """A logger must not raise."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    first, second = Mute(), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    chain: list[BaseException] = [without_secrets(first)]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)

    assert [type(each).__name__ for each in chain] == ["Mute", "ValueError"] * ((LONGEST_CHAIN + 1) // 2)
    assert str(chain[0]) == "(an error without a text)"
    assert first.__cause__ is second


@pytest.mark.parametrize(
    ("text", "is_json"),
    [("json", True), (" JSON ", True), ("text", False), ("", False)],
)
def test_the_environment_chooses_the_form(text: str, is_json: bool) -> None:
    """Anything but JSON leaves `logging` as it was."""
    logger = logging.getLogger("servicetitan")
    before = list(logger.handlers)
    handler = configure_shell_log({"SERVICETITAN_LOG_FORMAT": text}, stream=io.StringIO())
    try:
        assert (handler is not None) is is_json
        assert [each for each in logger.handlers if each not in before] == ([handler] if handler else [])
        assert handler is None or isinstance(handler.formatter, JsonLines)
    finally:
        if handler is not None:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True


def test_an_unknown_form_is_one_clear_error() -> None:
    """It names the variable, the value and what may stand there."""
    with pytest.raises(RequestError, match=r"^SERVICETITAN_LOG_FORMAT: 'xml' is not known; choose one of json, text$"):
        configure_shell_log({"SERVICETITAN_LOG_FORMAT": "xml"})


def test_a_shell_pays_for_neither_airflow_nor_structlog() -> None:
    """A line is written without either."""
    program = (
        "import sys; from include.orchestration.structured_logs import DecisionLog, configure_shell_log\n"
        "configure_shell_log({'SERVICETITAN_LOG_FORMAT': 'json'})\n"
        "DecisionLog('servicetitan.x').info('note', 'a %(note)s', note='line')\n"
        "print(sorted({'airflow', 'structlog', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert json.loads(done.stderr)["event"] == "a line"
    assert done.stdout == "[]\n"
