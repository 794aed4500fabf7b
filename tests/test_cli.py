"""The frame of the shell: which command runs, what a mistake looks like, which exit code means what."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include import cli

ROOT = Path(__file__).resolve().parents[1]
WRONG_POLICY = {"SERVICETITAN_MONITOR_CONFIG": "/nowhere/policy.yaml"}


def shell(*arguments: str, code: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command, or Python code, as a shell would."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "SERVICETITAN"))}
    command = [sys.executable, "-m", "include.cli", *arguments] if code is None else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    done = shell("--help")

    assert done.returncode == 0
    for name in cli.COMMANDS:
        assert f"    {name}" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["policy", "--help"], ["doctor", "--help"], ["policy", "--json"]])
def test_what_needs_neither_pandas_nor_airflow_imports_neither(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom include import cli\n"
        f"try:\n    cli.main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'airflow', 'pandas', 'numpy', 'psycopg'}))"
    )

    done = shell(code=code)

    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "the following arguments are required: COMMAND", id="nothing"),
        pytest.param(["polcy"], "unknown command 'polcy'; did you mean policy?", id="a misspelt command"),
        pytest.param(["policy", "--chek", "x"], "unrecognized arguments: --chek x", id="a misspelt option"),
        pytest.param(["policy", "--js"], "unrecognized arguments: --js", id="an abbreviated option"),
        pytest.param(["policy", "--check"], "expected one argument", id="an option without its value"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert cli.main(arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


def test_an_error_of_ours_is_one_line_without_traceback() -> None:
    done = shell("policy", **WRONG_POLICY)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: /nowhere/policy.yaml: does not exist\n"


def test_with_json_a_mistake_in_the_arguments_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever parses the answer need not read stderr."""
    assert cli.main(["check", "nonsense", "--json"]) == 2

    out, err = capsys.readouterr()
    assert "invalid choice: 'nonsense'" in json.loads(out)["error"]
    assert err.count("\n") == 1


def test_with_json_an_error_is_json_too() -> None:
    done = shell("policy", "--json", **WRONG_POLICY)

    assert done.returncode == 2
    assert json.loads(done.stdout) == {"error": "/nowhere/policy.yaml: does not exist"}
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_a_character_gets_its_number(tmp_path: Path, encoding: str) -> None:
    """A company has any name, and what was cut ends with "…": no reason for a traceback, nor for JSON that nobody reads."""
    overlay = tmp_path / "monitor.yaml"
    overlay.write_text(
        "alerting: {mutes: [{name: n, match: {severity: [low]}, from: '22:00', until: '06:00', timezone: UTC, "
        "reason: 'sómetimes … 日🔥'}]}",
        encoding="utf-8",
    )
    variables = {"SERVICETITAN_MONITOR_CONFIG": str(overlay), "PYTHONIOENCODING": encoding}

    lines, tree = (
        subprocess.run(
            [sys.executable, "-m", "include.cli", "route", "--type", "stale_sync", *more],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            check=False,
        )
        for more in ([], ["--json"])
    )

    assert (lines.returncode, lines.stderr, tree.returncode, tree.stderr) == (0, b"", 0, b"")
    assert json.loads(tree.stdout.decode(encoding))["mutes"][0]["reason"] == "sómetimes … 日🔥"
    shown = {"ascii": r"s\u00f3metimes \u2026 \u65e5\ud83d\udd25", "latin-1": r"sómetimes \u2026 \u65e5\ud83d\udd25"}
    assert f"mute n ({shown.get(encoding, 'sómetimes … 日🔥')}): " in lines.stdout.decode(encoding)


def test_a_reader_that_goes_away_is_no_error_worth_words() -> None:
    """Nothing on stderr, and the code that a shell knows for it."""
    code = (
        "import os, sys\nfrom include import cli\n"
        "read, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n"
        "sys.exit(cli.main(['policy']))"
    )

    done = shell(code=code)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        pytest.param("KeyboardInterrupt()", 130, "", id="Ctrl-C"),
        pytest.param("MonitorError('the source is down; start it')", 2, "error: the source is down", id="ours"),
        pytest.param(
            "ZeroDivisionError('x')", 2, "ZeroDivisionError: x", id="a bug never says that something breaches"
        ),
    ],
)
def test_how_a_command_that_raises_ends(raised: str, code: int, says: str) -> None:
    """The command is real; what it calls is made to fail, in a process of its own."""
    script = (
        "import sys\nfrom include import cli\nfrom include.commands import policy\n"
        "from include.sync_health.errors import MonitorError\n"
        f"def fail(args):\n    raise {raised}\n"
        "policy.run = fail\nsys.exit(cli.main(['policy']))"
    )

    done = shell(code=script)

    assert done.returncode == code
    assert done.stderr.startswith(says) or says in done.stderr
    assert ("Traceback" in done.stderr) is ("ZeroDivision" in raised)


def test_every_command_module_keeps_the_contract() -> None:
    """Each adds the parser of its own name, sets what to run, and knows --json."""
    present = [name for name in cli.COMMANDS if (ROOT / "include/commands" / f"{module_of(name)}.py").exists()]
    for name in present:
        parser = cli.Parser(prog="x")
        subparsers = parser.add_subparsers()
        importlib.import_module(f"include.commands.{module_of(name)}").add_parser(subparsers)
        assert list(subparsers.choices) == [name]
        added: argparse.ArgumentParser = subparsers.choices[name]
        assert callable(added.get_default("run"))
        assert "--json" in added.format_help()
    files = {path.stem for path in (ROOT / "include/commands").glob("*.py")} - {"__init__"}
    assert {"policy", "doctor"} <= files


def module_of(name: str) -> str:
    return name.replace("-", "_")


def test_monitor_errors_of_several_lines_are_several_errors(tmp_path: Path) -> None:
    """All mistakes of a policy come at once, each on a line that begins with the word error."""
    wrong = tmp_path / "policy.yaml"
    wrong.write_text("summary_above: x\nsource: {timezone: Nowhere}\n")

    done = shell("policy", SERVICETITAN_MONITOR_CONFIG=str(wrong))

    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
