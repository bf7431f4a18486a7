"""The demo's files, programs and narration fit the project's: rules, receivers, runbooks, policies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from sluicegate.auth import load_policy
from sluicegate.server.demo.world import write_world
from sluicegate.server.signals.sketches.fingerprints import SALT_BYTES, Fingerprints
from tools.demo_monitoring import acts, configs, partners, programs, traffic
from tools.demo_monitoring.errors import ProgramMissing
from tools.demo_monitoring.runbooks import first_advice, read_advice

RULES = {
    rule["alert"]: rule for g in yaml.safe_load(configs.rules())["groups"] for rule in g["rules"] if "alert" in rule
}
ACTS = acts.acts(has_networks=True)


def test_each_alert_of_an_act_is_in_the_rules_and_reaches_a_receiver_that_exists() -> None:
    receivers = {each["name"] for each in yaml.safe_load(configs.alertmanager_config("http://inbox"))["receivers"]}

    for act in ACTS:
        for alert, receiver in act.scenario.expects.items():
            assert alert.name in RULES
            assert receiver is None or receiver in receivers


def test_each_act_with_alerts_ends_with_the_advice_of_one_of_them() -> None:
    for act in ACTS:
        expected = {alert.name for alert in act.scenario.expects}
        assert (act.advice in expected) if expected else act.advice is None
        assert act.advice is None or len(first_advice(act.advice)) > 20


def test_without_networks_the_shared_token_is_left_out() -> None:
    assert {act.title for act in ACTS} - {act.title for act in acts.acts(has_networks=False)} == {
        "A token that gets around"
    }


def test_advice_is_the_first_point_on_one_line_without_marks() -> None:
    page = "# A\n\n## First look\n\n- no\n\n## Act\n\n- Do [this](x.md)\n  now.\n- And that.\n\n## When it ends\n"

    assert read_advice(page) == "Do this now."
    assert read_advice("# A\n") == ""


def test_rules_run_at_the_demos_pace_and_link_the_runbooks_here() -> None:
    rule = RULES["MassDuplicates"]

    assert rule["for"] == "5s"
    assert rule["annotations"]["runbook_url"] == "docs/runbooks/MassDuplicates.md"


def test_every_message_of_alertmanager_goes_to_the_inbox_at_the_demos_pace() -> None:
    document = yaml.safe_load(configs.alertmanager_config("http://127.0.0.1:9"))

    urls = [hook["url"] for each in document["receivers"] for hook in each["webhook_configs"]]
    assert urls == [f"http://127.0.0.1:9/{each['name']}" for each in document["receivers"]]
    assert (document["route"]["group_wait"], document["route"]["group_interval"]) == ("500ms", "5s")
    assert document["route"]["routes"][0]["group_wait"] == "166ms"


def test_prometheus_scrapes_the_server_as_one_job_and_tells_alertmanager(tmp_path: Path) -> None:
    document = yaml.safe_load(configs.prometheus_config(tmp_path / "rules.yml", "127.0.0.1:1", "http://127.0.0.1:2"))

    (scraped,) = document["scrape_configs"]
    assert "sluicegate" in scraped["job_name"]
    assert scraped["static_configs"] == [{"targets": ["127.0.0.1:1"]}]
    assert document["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:2"]}]}]


def test_programs_are_found_by_their_own_or_by_debians_name() -> None:
    there = {"prometheus": "/usr/bin/prometheus", "prometheus-alertmanager": "/usr/bin/prometheus-alertmanager"}

    found = programs.find_programs(there.get)

    assert found == programs.Programs("/usr/bin/prometheus", "/usr/bin/prometheus-alertmanager")


def test_a_missing_program_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(ProgramMissing, match="alertmanager cannot be found; as root: apt-get install") as caught:
        programs.find_programs({"prometheus": "/usr/bin/prometheus"}.get)

    assert str(caught.value).endswith(" prometheus-alertmanager")


def test_added_partners_are_a_valid_policy_with_tokens_of_their_own(tmp_path: Path) -> None:
    world = write_world(tmp_path, datetime.now(UTC))

    partners.add_partners(world)
    tokens = partners.issue_tokens(world)

    named = {agreement.partner for agreement in load_policy(world.policy, None).agreements.values()}
    assert named == {partners.HONEST, partners.CAMPAIGN, partners.CURIOUS, partners.ROAMING} == set(tokens.of)
    assert len({*tokens.of.values(), tokens.narrow, tokens.forged}) == 6


def test_letters_are_near_one_another_and_honest_prompts_are_not() -> None:
    of_text = Fingerprints(b"s" * SALT_BYTES).of_text

    def distances(texts: list[str]) -> list[int]:
        first, *others = [of_text(text) or 0 for text in texts]
        return [(first ^ other).bit_count() for other in others]

    assert max(distances(traffic.letters(180))) <= 15
    assert min(distances(traffic.varied_prompts(60))) > 15
