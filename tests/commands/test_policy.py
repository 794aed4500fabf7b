"""``policy``: the policy in force, and whether a file may become it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from include import cli
from include.orchestration.policy_file import SHIPPED_FILE, load_policy, parse_policy


@pytest.fixture(autouse=True)
def _no_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)


def test_it_prints_the_effective_policy_as_yaml_that_can_be_read_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("summary_above: 7")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", str(overlay))

    code = cli.main(["policy"])

    text = capsys.readouterr().out
    loaded = load_policy(overlay=overlay)
    assert code == 0
    assert text.startswith(f"# version {loaded.version}, from {SHIPPED_FILE}, then {overlay}\n")
    assert parse_policy(text).policy == loaded.policy
    assert list(yaml.safe_load(text))[:3] == ["source", "storage", "reporting"]


def test_with_json_it_tells_version_files_and_policy(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["policy", "--json"])

    answer = json.loads(capsys.readouterr().out)
    loaded = load_policy()
    assert code == 0
    assert (answer["version"], answer["sources"]) == (loaded.version, [str(SHIPPED_FILE)])
    assert parse_policy(json.dumps(answer["policy"])).policy == loaded.policy


def test_a_right_file_is_ok(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("source: {timezone: America/New_York}")

    assert cli.main(["policy", "--check", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"ok: {file} is a valid policy; version ")
    assert cli.main(["policy", "--check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_wrong_file_tells_every_mistake_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("source: {timezon: UTC}\nrules: {stuck_sync: {open_for: 90}}\n")

    code = cli.main(["policy", "--check", str(file)])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", "source.timezon"],
        ["error", "rules.stuck_sync.open_for"],
    ]
    assert "did you mean timezone?" in lines[0]
    assert "(new.yaml line 2)" in lines[1]


def test_with_json_the_mistakes_are_a_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"

    code = cli.main(["policy", "--check", str(missing), "--json"])

    assert code == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "file": str(missing),
        "mistakes": [f"{missing}: does not exist"],
    }


def test_the_file_is_checked_over_the_shipped_one_whatever_the_environment_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text("summary_above: 3")
    monkeypatch.setenv("SERVICETITAN_MONITOR_CONFIG", "/nowhere/broken.yaml")

    assert cli.main(["policy", "--check", str(file)]) == 0
    assert "ok" in capsys.readouterr().out
