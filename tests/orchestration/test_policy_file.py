"""The policy file: what it takes, what it refuses and in which words, and what stays in force when it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from include.orchestration.policy_file import (
    OVERLAY_VARIABLE,
    SHIPPED_FILE,
    dump_policy,
    load_policy,
    load_policy_or_last_good,
    parse_policy,
    version_of,
)
from include.orchestration.policy_mistakes import PolicyErrors
from include.orchestration.policy_schema import PolicySection, keys_of, section_at, tree_of
from include.orchestration.policy_values import CONNECTION_STATUSES
from include.sync_health import policy as core
from include.sync_health import rule_policies
from include.sync_health.credential_facts import KNOWN_STATUSES
from include.sync_health.errors import PolicyError
from include.sync_health.verdicts import Severity
from tests.orchestration.valid_policies import policies

Write = Callable[..., Path]


# -- the shipped file ----------------------------------------------------------------------------


def test_shipped_file_has_the_defaults_of_the_core() -> None:
    """No default stands in two places with two values."""
    shipped, defaults = load_policy(environ={}).policy, core.Policy()

    differing = {f.name for f in fields(core.Policy) if getattr(shipped, f.name) != getattr(defaults, f.name)}

    assert differing == {"receivers", "routes"}


def test_shipped_routes_tell_ops_everything_but_low() -> None:
    policy = load_policy(environ={}).policy

    (route,) = policy.routes
    assert route.match.severity == set(Severity) - {Severity.LOW}
    assert policy.receivers[route.to].channels() == ("slack:#servicetitan-alerts", "email:ops@example.com")


def test_every_setting_of_the_shipped_file_is_explained() -> None:
    """Somebody reads this file at night: a comment on its line, on its namesake's, or in a block above."""
    lines = SHIPPED_FILE.read_text(encoding="utf-8").splitlines()
    settings_of = [(line, re.match(r"[ -]*(\w+): +[^ #]", line)) for line in lines]
    explained = {found[1] for line, found in settings_of if found and "#" in line}
    explained |= set(re.findall(r"\w+", " ".join(line for line in lines if line.startswith("#"))))

    assert {found[1] for _, found in settings_of if found} - explained == set()


# -- overlays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        pytest.param(
            "source: {timezone: America/New_York}", ("source", "timezone"), "America/New_York", id="one key alone"
        ),
        pytest.param("", ("source", "timezone"), "UTC", id="an empty file changes nothing"),
        pytest.param("# nothing yet\n", ("source", "timezone"), "UTC", id="only comments change nothing"),
        pytest.param("\ufeffsource: {schema: hub}", ("source", "schema"), "hub", id="a byte order mark is passed over"),
        pytest.param('{"summary_above": 5}', ("summary_above",), 5, id="JSON is YAML"),
        pytest.param(
            "rules: {stuck_sync: {mode: off}}", ("rules", "stuck_sync", "mode"), "off", id="off is a word, no switch"
        ),
        pytest.param("repeat: {critical: never}", ("repeat", "critical"), "never", id="a repeat may be never"),
        pytest.param("repeat: {low: every run}", ("repeat", "low"), "every run", id="or with every run"),
        pytest.param(
            "rules: {stale_sync: {high_after: never}}",
            ("rules", "stale_sync", "high_after"),
            "never",
            id="what is high after a while may be never",
        ),
        pytest.param(
            "rules: {data_quality: {breach_share: 12.5}}",
            ("rules", "data_quality", "breach_share"),
            12.5,
            id="a share may have a fraction",
        ),
        pytest.param(
            "rules: {data_quality: {breach_share: 30.0}}",
            ("rules", "data_quality", "breach_share"),
            30,
            id="a whole share is shown without one",
        ),
        pytest.param(
            "rules: {data_quality: {breach_share: 0}}",
            ("rules", "data_quality", "breach_share"),
            0,
            id="a single failed record may be too many",
        ),
        pytest.param(
            "credentials: {monitored_statuses: [error]}",
            ("credentials", "monitored_statuses"),
            ["error"],
            id="a list of statuses replaces the shipped one",
        ),
        pytest.param(
            "environments: {integration: {severity_cap: null}}",
            ("environments", "integration", "severity_cap"),
            None,
            id="a cap may be lifted",
        ),
        pytest.param(
            "rules: {sync_failures: &r {count_cancelled: true}, consecutive_failures: *r}",
            ("rules", "consecutive_failures", "count_cancelled"),
            True,
            id="an alias is followed",
        ),
        pytest.param("rules: {stuck_sync: {for: 90s}}", ("rules", "stuck_sync", "for"), "90s", id="seconds are a unit"),
    ],
)
def test_an_overlay_may_hold_only_what_differs(overlay: Write, text: str, path: tuple[str, ...], value: object) -> None:
    tree = tree_of(load_policy(overlay=overlay(text)).policy)

    found: object = tree
    for part in path:
        found = found[part]  # type: ignore[index]
    assert found == value


def test_maps_merge_deeply_and_lists_replace(overlay: Write) -> None:
    policy = load_policy(
        overlay=overlay("receivers: {ops: {email: [a@b.example]}, night: {slack: ['#night']}}\nroutes: [{to: night}]")
    ).policy

    assert policy.receivers["ops"].slack == ("#servicetitan-alerts",)
    assert policy.receivers["ops"].email == ("a@b.example",)
    assert [route.to for route in policy.routes] == ["night"]


def test_the_environment_names_the_overlay_and_an_argument_wins(overlay: Write) -> None:
    named, given_file = overlay("summary_above: 5"), overlay("summary_above: 6", "other.yaml")

    assert load_policy(environ={OVERLAY_VARIABLE: str(named)}).policy.summary_above == 5
    assert load_policy(environ={OVERLAY_VARIABLE: str(named)}, overlay=given_file).policy.summary_above == 6
    assert load_policy(environ={OVERLAY_VARIABLE: "  "}).sources == (SHIPPED_FILE,)
    assert load_policy(environ={OVERLAY_VARIABLE: str(named)}).sources == (SHIPPED_FILE, named)


YAML_PIECES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("1h"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["to", "match", "slack", "x", "ops", "window", "for"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(key=st.sampled_from(keys_of(PolicySection)), value=YAML_PIECES)
def test_no_value_anywhere_raises_anything_but_a_policy_error(tmp_path_factory, key: str, value: object) -> None:
    """Whatever stands in a section: a policy, or a list of mistakes; never a traceback."""
    file = tmp_path_factory.mktemp("fuzz") / "mine.yaml"
    file.write_text(yaml.safe_dump({key: value}), encoding="utf-8")
    shipped = dump_policy(load_policy(environ={}).policy)

    loaded, error = load_policy_or_last_good(remembered=shipped, overlay=file)

    assert parse_policy(dump_policy(loaded.policy)).policy == loaded.policy
    assert (dump_policy(loaded.policy) == shipped) if error else loaded.sources


# -- versions and the last good policy -----------------------------------------------------------


@settings(max_examples=60)
@given(policy=policies())
def test_what_is_dumped_is_read_back_equal(policy: core.Policy) -> None:
    loaded = parse_policy(dump_policy(policy))

    assert loaded.policy == policy
    assert loaded.version == version_of(policy)
    # What `policy` prints is YAML for people; it means the same.
    assert parse_policy(yaml.safe_dump(tree_of(policy), sort_keys=False)).policy == policy


def test_equal_policies_have_equal_versions_however_they_are_written(overlay: Write) -> None:
    plain = load_policy(environ={}).version
    same = load_policy(overlay=overlay("rules: {sync_failures: {window: 60m}}\nrepeat: {medium: 1d}")).version
    other = load_policy(overlay=overlay("rules: {sync_failures: {window: 61m}}")).version

    assert plain == same != other
    assert len(plain) == 12
    assert set(plain) <= set("0123456789abcdef")


def test_the_last_good_policy_stays_in_force_while_the_file_is_wrong(overlay: Write) -> None:
    good = load_policy(overlay=overlay("summary_above: 7"))
    wrong = overlay("summary_above: many")

    loaded, error = load_policy_or_last_good(remembered=dump_policy(good.policy), overlay=wrong)

    assert loaded.policy == good.policy
    assert loaded.version == good.version
    assert loaded.sources == ()
    assert isinstance(error, PolicyErrors)
    assert "summary_above" in str(error)


def test_a_right_file_wins_over_what_is_remembered(overlay: Write) -> None:
    remembered = dump_policy(load_policy(overlay=overlay("summary_above: 7")).policy)

    loaded, error = load_policy_or_last_good(remembered=remembered, overlay=overlay("summary_above: 8"))

    assert (loaded.policy.summary_above, error) == (8, None)


@pytest.mark.parametrize("remembered", [None, "{", "[]", "{summary_above: x}"], ids=["nothing", "cut", "list", "wrong"])
def test_without_a_usable_memory_the_error_is_that_of_the_file(overlay: Write, remembered: str | None) -> None:
    with pytest.raises(PolicyError, match=r"source\.timezone"):
        load_policy_or_last_good(remembered=remembered, overlay=overlay("source: {timezone: Nowhere}"))


def test_a_memory_older_than_the_code_gets_the_new_keys_from_the_shipped_file(overlay: Write) -> None:
    older = '{"source":{"timezone":"America/Chicago"},"summary_above":9}'

    loaded, _ = load_policy_or_last_good(remembered=older, overlay=overlay("nonsense: 1"))

    assert loaded.policy.summary_above == 9
    assert loaded.policy.source.timezone == "America/Chicago"
    assert loaded.policy.rules == rule_policies.RulePolicies()


def test_every_rule_of_the_core_has_its_section() -> None:
    """A rule added to the core must be settable in the file, with every field it has."""
    for rule in rule_policies.RulePolicies.__slots__:
        section = section_at(("rules", rule))
        assert section is not None
        names = {f.name for f in fields(rule_policies.RulePolicies().named(rule))}
        assert {key if key != "for" else "for_" for key in keys_of(section)} == names


def test_the_statuses_that_a_policy_may_name_are_those_that_the_core_knows() -> None:
    """Of any other the core says that it cannot tell whether such a credential is in use."""
    assert CONNECTION_STATUSES == KNOWN_STATUSES
