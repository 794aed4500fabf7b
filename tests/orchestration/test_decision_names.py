"""The calls of the log in the code, held against docs/logging.md and against what Airflow allows."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from include.orchestration.structured_logs import (
    Fields,
)

PROJECT = Path(__file__).parents[2]
DOCUMENTED = PROJECT / "docs" / "logging.md"


AIRFLOWS_OWN = frozenset(
    {
        # What Airflow binds, and what its processors and its supervisor put into a line or take from one.
        *("ti_id", "dag_id", "task_id", "run_id", "try_number", "map_index"),
        *("event", "level", "timestamp", "logger", "logger_name", "filename", "lineno", "loc", "func_name", "module"),
        *("exception", "exc_info", "stack_info", "stack", "error_detail", "positional_args", "chan"),
        *("target", "msg", "self", "name", "method_name", "event_dict", "_record", "_from_structlog"),
    }
)


LEVELS = {
    "log.info": "info",
    "log.warning": "warning",
    "log.error": "error",
    "log.exception": "error with the exception",
}


@dataclass(frozen=True)
class Call:
    """A call of a `DecisionLog` in the code."""

    decision: str
    where: str  # logger and level, such as "evaluation, info"
    sentence: str
    fields: tuple[str, ...]
    bound: frozenset[str]


def calls() -> list[Call]:
    """Every call of ``log`` in the modules that have a `DecisionLog`."""
    found = []
    for path in sorted((PROJECT / "include").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        loggers = [
            ast.literal_eval(node.value.args[0])
            for node in nodes
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "DecisionLog"
        ]
        if not loggers:
            continue
        dicts = {
            node.name: tuple(ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign))
            for node in nodes
            if isinstance(node, ast.ClassDef)
        }
        returns = {
            node.name: ast.unparse(node.returns) for node in nodes if isinstance(node, ast.FunctionDef) and node.returns
        }
        levels = dict(LEVELS)
        for node in nodes:  # ``write = log.info if ... else log.warning``
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp):
                either = [levels.get(ast.unparse(each)) for each in (node.value.body, node.value.orelse)]
                if all(either):
                    levels[ast.unparse(node.targets[0])] = " or ".join(map(str, either))
        is_bound = {
            str(keyword.arg)
            for node in nodes
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "bound"
            for keyword in node.keywords
        }
        for node in nodes:
            if not isinstance(node, ast.Call) or (level := levels.get(ast.unparse(node.func))) is None:
                continue
            names: list[str] = []
            for keyword in node.keywords:
                if keyword.arg is not None:
                    names.append(keyword.arg)
                else:  # ``**_alert_fields(...)``, which returns a TypedDict of the module
                    assert isinstance(keyword.value, ast.Call)
                    names += dicts[returns[ast.unparse(keyword.value.func)]]
            decision, sentence = map(ast.literal_eval, node.args)
            found.append(
                Call(
                    decision=decision,
                    where=f"{loggers[0].removeprefix('servicetitan.')}, {level}",
                    sentence=sentence,
                    fields=tuple(names),
                    bound=frozenset(is_bound),
                )
            )
    return found


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """The table of docs/logging.md: each decision's logger and level, and its fields."""
    rows = [line.strip("| \n").split(" | ") for line in DOCUMENTED.read_text().splitlines() if line.startswith("| `")]
    return {
        row[0].strip("`"): (row[1], frozenset(re.findall(r"`(\w+)`", row[3]) if len(row) > 3 else ())) for row in rows
    }


def test_the_documentation_lists_every_decision_with_its_fields() -> None:
    """And none that there is not; two calls of one decision may have different fields."""
    coded: dict[str, tuple[str, frozenset[str]]] = {}
    for call in calls():
        where, fields = coded.get(call.decision, (call.where, frozenset()))
        assert where == call.where, call.decision
        coded[call.decision] = (where, fields | set(call.fields))

    assert documented() == coded
    assert len(coded) > 30  # the code was found at all


def test_a_sentence_is_filled_in_from_fields_alone() -> None:
    """A literal with named places, each of a field that the call has or its module binds."""
    for call in calls():
        places = set(re.findall(r"%\((\w+)\)s", call.sentence))
        assert call.sentence.count("%") == len(re.findall(r"%\(\w+\)s", call.sentence)), call
        assert places <= {*call.fields, *call.bound}, call


def test_no_field_has_a_name_that_airflow_uses() -> None:
    """The supervisor passes fields on as arguments: one named ``target`` would stop it."""
    assert not AIRFLOWS_OWN & {*Fields.__annotations__, "decision"}
    assert {name for call in calls() for name in call.fields} <= set(Fields.__annotations__)


def test_every_field_is_used() -> None:
    """The closed set holds nothing that no line has."""
    used = {name for call in calls() for name in (*call.fields, *call.bound)}
    assert used == set(Fields.__annotations__)
