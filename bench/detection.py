"""What the rules catch of simulated attacks, and what they say of normal events: by the pure functions, without Beam.

Run: python -m bench.detection --seeds 101 102 103
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from fraud_pipeline.report.measures import DAY_MS, Decision, Detection, by_scenario, count, detection
from fraud_pipeline.rules import read_rules
from fraud_pipeline.simulate import AttackLabel, SimulationConfig, simulate
from transforms.aggregation import Aggregation, AggregationConfig
from transforms.events import Envelope, Message
from transforms.parsing import parse
from transforms.records import FeatureRecord, Score
from transforms.rules import RuleSet
from transforms.scoring import score


def main() -> None:
    """Prints a table: attacks caught by scenario, and false alarms on the normal events of the labelled days."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103], help="of the simulator (%(default)s)")
    parser.add_argument("--users", type=int, default=1000, help="users for each seed (%(default)s)")
    parser.add_argument("--rules", help="a rules file (those that ship)")
    parser.add_argument("--explain", action="store_true", help="also what was missed, and which rules cried wolf")
    args = parser.parse_args()
    rules = read_rules(args.rules)
    found = [evaluate(SimulationConfig(users=args.users, seed=seed), rules) for seed in args.seeds]
    print(f"seeds {', '.join(map(str, args.seeds))}, {args.users:,} users and a day each, rules {rules.version}")
    _print_table([detected for detected, _ in found])
    if args.explain:
        for seed, (detected, _) in zip(args.seeds, found, strict=True):
            for attack in detected.attacks:
                if not attack.caught:
                    print(
                        f"missed, seed {seed}: {attack.attack_id}, intensity {attack.intensity}, {attack.events} events"
                    )
        for rule_id, events in sum((cried for _, cried in found), Counter[str]()).most_common():
            print(f"{events:6,} of the flagged normal events: {rule_id}")


def _print_table(found: Sequence[Detection]) -> None:
    attacks = [attack for detected in found for attack in detected.attacks]
    normal = sum(detected.normal_events for detected in found)
    flagged = sum(detected.normal_flagged for detected in found)
    print(f"{'scenario':22}{'attacks':>8}{'caught':>8}{'recall':>9}{'early':>8}{'events':>8}{'flagged':>9}{'share':>9}")
    for row in [*by_scenario(attacks), count("all", attacks)]:
        print(
            f"{row.name:22}{row.attacks:8,}{row.caught:8,}{row.recall:9.1%}{row.caught_early:8,}{row.events:8,}"
            f"{row.flagged:9,}{row.flagged / row.events:9.1%}"
        )
    print(f"normal events {normal:,}, flagged {flagged:,}: {flagged / normal:.2%}")


def evaluate(config: SimulationConfig, rules: RuleSet) -> tuple[Detection, Counter[str]]:
    """Scores a simulation by the batch path.

    Returns:
      What was detected; and for each rule how many of the flagged normal events it fired on.
    """
    labels: list[AttackLabel] = []
    by_user: dict[str, list[Envelope]] = defaultdict(list)
    for arrival in simulate(config):
        if arrival.label is not None:
            labels.append(arrival.label)
        parsed = parse(Message(arrival.payload, arrival.received_ms, "simulation"))
        if isinstance(parsed, Envelope):
            by_user[parsed.event.user_id].append(parsed)
    scores = [score(record, rules) for envelopes in by_user.values() for record in _features(envelopes)]
    found = detection(_decisions(scores), labels)
    attacked = {label.event_id for label in labels}
    cried = Counter(
        rule.rule_id
        for one in scores
        if one.action != "allow"
        and one.record.event.event_id not in attacked
        and one.record.event.event_time_ms // DAY_MS in found.days
        for rule in one.fired
    )
    return found, cried


def _features(envelopes: list[Envelope]) -> Iterator[FeatureRecord]:
    for record in Aggregation(AggregationConfig()).backfill(envelopes):
        if isinstance(record, FeatureRecord):
            yield record


def _decisions(scores: list[Score]) -> Iterator[Decision]:
    first: dict[tuple[str, str], Score] = {}
    last: dict[tuple[str, str], Score] = {}
    for one in scores:
        event = one.record.event
        first.setdefault((event.user_id, event.event_id), one)
        last[event.user_id, event.event_id] = one
    for key, one in last.items():
        record = one.record
        yield Decision(
            record.event.event_id,
            record.event.event_time_ms,
            record.received_ms,
            first[key].action,
            one.action,
        )


if __name__ == "__main__":
    main()
