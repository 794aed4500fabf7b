"""Where messages lead."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerting_policies import LinksPolicy
from include.sync_health.alerts import CloseReason
from include.sync_health.links import (
    MOST_SILENCED,
    Labelled,
    Links,
    links_in,
    links_of_alert,
    links_of_group,
    links_of_summary,
)
from include.sync_health.slack_blocks import safe_url
from tests.sync_health.conversation_cases import LINKS, group
from tests.sync_health.hostile_texts import SECRETS, untrusted
from tests.sync_health.message_alerts import RULES, alert, closed


def address(labelled: Labelled, label: str) -> str:
    """The address behind a label."""
    return dict(labelled)[label]


def asked_by(url: str) -> dict[str, str]:
    """What an address asks for; alternatives with a comma."""
    return {name: ",".join(values) for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def test_an_alert_leads_to_its_page_its_rule_its_run_and_a_silence() -> None:
    """Each with what the page needs to know."""
    one = alert("sync_failures")
    links = links_of_alert(one, links=LINKS)

    assert [label for label, _ in links] == ["Alert", "Runbook", "Airflow run", "Silence"]
    assert asked_by(address(links, "Alert")) == {"fingerprint": one.fingerprint}
    assert urlsplit(address(links, "Runbook")).fragment == "sync-failures"
    assert asked_by(address(links, "Silence")) == {
        "rule": "sync_failures",
        "credential": "17",
        "environment": "production",
    }


def test_nothing_that_is_over_can_be_silenced_from_its_message() -> None:
    """The link would silence what comes next."""
    over = closed(alert("sync_failures"), why=CloseReason.RECOVERED, reason="mended")

    assert "Silence" not in dict(links_of_alert(over, links=LINKS))
    assert not [label for label, _ in links_of_group([over, over], links=LINKS) if "Silence" in label]


def test_a_group_leads_to_all_of_it() -> None:
    """By rule, environment and cause; its silence by rule, environment and credentials, for others may break meanwhile."""
    links = links_of_group(group(3), links=LINKS)

    assert asked_by(address(links, "All of them")) == {
        "rule": "sync_failures",
        "environment": "production",
        "cause": "a" * 16,
    }
    assert asked_by(address(links, "Silence these")) == {
        "rule": "sync_failures",
        "environment": "production",
        "credential": "0,1,2",
    }


def test_a_group_that_is_too_large_to_name_offers_a_silence_of_its_rule_and_says_so() -> None:
    """An address of 3,000 credentials is longer than a message."""
    links = links_of_group(group(MOST_SILENCED + 1), links=LINKS)

    assert "Silence these" not in dict(links)
    assert asked_by(address(links, "Silence the rule")) == {"rule": "sync_failures", "environment": "production"}


def test_who_recovered_is_not_silenced_with_the_others() -> None:
    """The link would silence what comes next."""
    one, two, three = group(3)
    over = closed(two, why=CloseReason.RECOVERED, reason="mended")

    links = links_of_group([one, over, three], links=LINKS)

    assert asked_by(address(links, "Silence these"))["credential"] == "0,2"


@pytest.mark.parametrize(
    ("rule", "asks"),
    [
        pytest.param(
            "consecutive_failures",
            {"rule": "consecutive_failures", "credential": "17", "environment": "production", "data_type": "invoices"},
            id="of one data type",
        ),
        pytest.param("api_errors", {"rule": "api_errors", "environment": "production"}, id="of one endpoint"),
        pytest.param("monitor_health", {"rule": "monitor_health"}, id="of one thing that the monitor cannot see"),
    ],
)
def test_a_silence_is_of_this_alert_and_of_no_other(rule: str, asks: dict[str, str]) -> None:
    """What no credential tells apart the fingerprint does."""
    one = alert(rule)
    asks |= {} if one.credential_id else {"fingerprint": one.fingerprint}

    assert asked_by(address(links_of_alert(one, links=LINKS), "Silence")) == asks


def test_a_group_of_several_causes_is_asked_for_without_one() -> None:
    """Else its page would show a part of it."""
    one, two = group(2)

    links = links_of_group([one, replace(two, cause="b" * 16)], links=LINKS)

    assert "cause" not in asked_by(address(links, "All of them"))


@pytest.mark.parametrize(
    ("rules", "fragment"),
    [
        pytest.param(("stale_sync", "stale_sync"), "stale-sync", id="one rule"),
        pytest.param(("stale_sync", "sync_failures"), "", id="several rules"),
        pytest.param((), "", id="no alert"),
    ],
)
def test_a_summary_leads_to_the_rule_that_all_are_of(rules: tuple[str, ...], fragment: str) -> None:
    """Else to the whole runbook."""
    links = links_of_summary([alert(rule) for rule in rules], links=LINKS)

    assert urlsplit(address(links, "Runbook")).fragment == fragment


def test_only_what_is_configured_is_there() -> None:
    """No link is better than a dead one."""
    assert links_of_alert(alert("no_syncs"), links=Links()) == ()
    assert links_of_group(group(2), links=Links()) == ()


@pytest.mark.parametrize(
    ("policy", "run"),
    [
        pytest.param(LinksPolicy(), None, id="no address of Airflow"),
        pytest.param(
            LinksPolicy(airflow="https://airflow.example.com/"),
            "https://airflow.example.com/dags/a_dag/runs/manual__2026-11-24T12%3A00%3A00%2B00%3A00",
            id="escaped, and without a doubled slash",
        ),
    ],
)
def test_the_run_that_speaks_is_found_in_airflow(policy: LinksPolicy, run: str | None) -> None:
    """Its id holds what an address may not."""
    assert links_in(policy, dag_id="a_dag", run_id="manual__2026-11-24T12:00:00+00:00").run == run


def test_a_run_without_an_id_has_no_page() -> None:
    """A shell's has none."""
    assert links_in(LinksPolicy(airflow="https://airflow.example.com")).run is None


@given(text=untrusted, rule=st.sampled_from(RULES))
def test_data_cannot_leave_its_place_in_an_address(text: str, rule: str) -> None:
    """Whatever an id holds, the page is ours, the values are what they were, and no secret is among them."""
    one = replace(alert(rule), credential_id=text, environment=text)

    for label, url in links_of_alert(one, links=LINKS):
        parts = urlsplit(url)
        assert parts.hostname in ("airflow.example.com", "wiki.example.com")
        assert safe_url(url) is not None
        assert not [secret for _, secret in SECRETS if secret in url]
        if label == "Silence":
            assert parts.path == "/servicetitan-monitor/silences"
            wanted = {"rule": rule, "credential": text, "environment": text, "data_type": one.data_type}
            wanted |= {} if text else {"fingerprint": one.fingerprint}
            assert asked_by(url) == {name: value for name, value in wanted.items() if value}


@pytest.mark.parametrize("text", ["password: hunt3r", "x" * 500, " 17", "17\u200b"], ids=repr)
def test_what_is_no_id_silences_nothing(text: str) -> None:
    """Left out, it would silence more than this alert; shown, it could be a secret."""
    assert "Silence" not in dict(links_of_alert(replace(alert("sync_failures"), credential_id=text), links=LINKS))
