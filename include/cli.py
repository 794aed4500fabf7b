"""
The monitor from a shell: ``python -m include.cli COMMAND [...]``.

Exit codes: 0 all clear or done; 1 something breaches; 2 could not tell or could not do, which wins over 1, and a
user's mistake is 2 with one line on stderr (with ``--json`` also ``{"error": ...}`` on stdout), and so is an output that
cannot be written. 130 after Ctrl-C, 141 when the reader of the output went away.

Only the module of the command that is asked for is imported, so that ``--help`` and commands that need neither pandas
nor Airflow do not pay for them.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import difflib
import errno
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from include.sync_health.errors import MonitorError, RequestError

PROGRAM = "python -m include.cli"
EXIT_DONE, EXIT_BREACH, EXIT_FAILED = 0, 1, 2
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141  # as a shell tells it: 128 + SIGINT, 128 + SIGPIPE

OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How a disk refuses what is written to it; of a file that a command names the command tells it."""

_ESCAPED = "servicetitan_monitor_escaped"
"""The name of `_escaped` among Python's error handlers."""

COMMANDS = {
    "migrate": "create or raise the monitoring schema",
    "policy": "show the effective policy, check a file, or adopt what is broken already",
    "check": "evaluate the rules now or at a moment, without writing or telling",
    "route": "say where an alert would go, and why",
    "silence": "ask for silence about some alerts for a while, list silences, end one",
    "ack": "say that somebody has an alert in hand: no repeats",
    "why": "the time line of an alert: what was told to whom, or why not, and what comes next",
    "quality": "compute the daily quality of past days, or export and plot what is stored",
    "health": "the health check: credentials, API, recent syncs, databases and machine",
    "doctor": "check connections, rights, schema, time zone, Slack and mail",
    "test-alert": "send a test message to every channel",
}
"""Every command and its one-line help; the module is `include.commands` plus the name with underscores."""


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and tells a mistake in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise a `RequestError` of one line, which `main` tells as it tells every mistake."""
        raise RequestError(f"{' '.join(message.split())}; see {self.prog} --help")


def build_parser(command: str | None) -> Parser:
    """Return the parser in which only ``command`` is complete; the others are names with their help."""
    parser = Parser(
        prog=PROGRAM,
        description="Watch the ServiceTitan integration of Hub Plus from a shell.",
        epilog="Exit codes: 0 all clear or done, 1 something breaches, 2 could not tell or could not do.",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name == command:
            importlib.import_module(f"include.commands.{name.replace('-', '_')}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command and return its exit code; ``argv`` without the program's name, None: the process's own.

    Raises:
        SystemExit: after ``--help``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _write_whatever_comes()
    try:
        code = _told(arguments)
        _flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last resort of a process
        if isinstance(error, OSError) and error.filename is None and error.errno in OUTPUT_ERRORS:
            _discard_output()
            print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
            return EXIT_FAILED
        # Python's own code for it would be 1, and say that something breaches.
        traceback.print_exc()
        return EXIT_FAILED
    return code


def _told(arguments: list[str]) -> int:
    """Run one command, tell a `MonitorError` in its lines, and return the exit code."""
    try:
        return _run(arguments)
    except MonitorError as error:
        for line in str(error).splitlines() or [type(error).__name__]:
            print(f"error: {line}", file=sys.stderr)
        if "--json" in arguments:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        return EXIT_FAILED
    except SystemExit:
        _flush()  # the help, before it is too late to say that nobody can read it
        raise


def _write_whatever_comes() -> None:
    """Let a character that the terminal's encoding lacks be written as ``\\u2026``, in JSON too; not be the end."""
    codecs.register_error(_ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return json.dumps(lacking)[1:-1], error.end


def _flush() -> None:
    if sys.stdout is not None:  # it was closed by whoever started us
        sys.stdout.flush()


def _discard_output() -> None:
    """Let what is still to be written go nowhere: the interpreter flushes once more at its end, and would complain."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    command = word if word in COMMANDS else None
    parser = build_parser(command)
    if word is not None and command is None:
        near = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        parser.error(f"unknown command {word!r}; {hint}use one of {', '.join(COMMANDS)}")
    args = parser.parse_args(arguments)
    if os.environ.get("SERVICETITAN_LOG_FORMAT"):
        from include.orchestration.structured_logs import configure_shell_log

        configure_shell_log()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
