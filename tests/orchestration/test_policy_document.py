"""Files that are no policy at all: one line says what is wrong, and none of them does harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.orchestration.policy_file import load_policy
from include.orchestration.policy_mistakes import lines_of
from include.sync_health.errors import PolicyError

Write = Callable[..., Path]


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_policy(overlay=path)
    return lines_of(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("source: {timezone: UTC", "line 1, column 23: not valid YAML", id="a brace left open"),
        pytest.param("source:\n\ttimezone: UTC\n", "line 2, column 1: not valid YAML", id="a tab"),
        pytest.param("- source", "must be a mapping of keys to values, and is a list", id="a list"),
        pytest.param("hello", "is a single value", id="a word"),
        pytest.param("a: 1\n---\nb: 2", "line 2, column 1: not valid YAML", id="two documents"),
        pytest.param("source: !!python/object:os.system {}", "the tag", id="a tag"),
        pytest.param("source: {schema: !secret x}", "line 1: the tag '!secret'", id="a tag of ours"),
        pytest.param("? [a]\n: b", "a key must be a plain word", id="a list as a key"),
        pytest.param("a: &a [*a]", "too deep or too large", id="an alias of itself"),
        pytest.param("a: \x07", "not valid YAML", id="a control character"),
        pytest.param("[" * 5000, "too deep", id="a pit of brackets"),
    ],
)
def test_a_file_that_is_no_policy_is_told_in_one_line(overlay: Write, text: str, says: str) -> None:
    (line,) = mistakes_of(overlay(text))

    assert line.startswith("mine.yaml: ")
    assert says in line


def test_aliases_that_multiply_are_cut_off(overlay: Write) -> None:
    """A file of 400 bytes that means 10 ** 9 values."""
    text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )

    (line,) = mistakes_of(overlay(text))

    assert "too deep or too large" in line


def test_keys_written_twice_are_told_with_both_lines(overlay: Write) -> None:
    text = "rules:\n  stuck_sync:\n    open_for: 1h\n    open_for: 2h\nsummary_above: 3\nsummary_above: 4\n"

    assert mistakes_of(overlay(text)) == [
        "rules.stuck_sync.open_for: written twice; keep one of lines 3 and 4 (mine.yaml line 4)",
        "summary_above: written twice; keep one of lines 5 and 6 (mine.yaml line 6)",
    ]


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    big, binary = tmp_path / "big.yaml", tmp_path / "latin.yaml"
    big.write_bytes(b"#" * 300_000)
    binary.write_bytes("receivers: {café: {}}".encode("latin-1"))

    assert mistakes_of(tmp_path / "none.yaml") == [f"{tmp_path / 'none.yaml'}: does not exist"]
    assert mistakes_of(tmp_path) == [f"{tmp_path}: is not a regular file"]
    assert mistakes_of(big) == [f"{big}: is larger than 256 KiB: not a policy"]
    assert mistakes_of(binary) == [f"{binary}: is not UTF-8 text (byte 15)"]
