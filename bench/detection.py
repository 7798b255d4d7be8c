"""What the shipped rules catch of simulated attacks, and what they say of normal events: the whole path, without Beam.

Run: python -m bench.detection                                     # the held-out seeds
     python -m bench.detection --seeds 1 2 3 4 5 --explain         # those that the rules were tuned on
     python -m bench.detection --fade docs/pictures/detection_fade.svg   # recall by intensity, as a picture
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from fraud_pipeline import in_memory
from fraud_pipeline.report.measures import DAY_MS, Decision, Detection, by_scenario, count, detection
from fraud_pipeline.rules.files import DEFAULT
from fraud_pipeline.simulate import AttackLabel, AttackPlan, SimulationConfig, simulate
from fraud_pipeline.simulate.network import known_anonymizers
from fraud_pipeline.simulate.scenarios import load_scenarios
from transforms.events import Envelope, Message, Payment
from transforms.list_file import Outside, RawEntry, load_lists
from transforms.lists import NO_LISTS, ListSet
from transforms.parsing import parse
from transforms.records import Score
from transforms.rule_file import load_rules
from transforms.rules import RuleSet

HELD_OUT = [501, 502, 503]
FADE_INTENSITIES = (0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Found(msgspec.Struct, frozen=True):
    """What became of one simulation.

    Attributes:
      seed: the simulation's.
      detection: its attacks, and the normal events of the days with attacks.
      by_rule: rules to flagged normal events they fired on.
      by_scenario: scenarios to flagged normal events that a rule of that tag fired on.
      in_time: mules caught before their second transfer left, of all mules.
    """

    seed: int
    detection: Detection
    by_rule: Counter[str]
    by_scenario: Counter[str]
    in_time: tuple[int, int]


def main() -> None:
    """Prints a table: attacks caught by scenario, and false alarms on the normal events of the days with attacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=HELD_OUT, help="of the simulator (%(default)s)")
    parser.add_argument("--users", type=int, default=3000, help="users for each seed (%(default)s)")
    parser.add_argument("--attack-rate", type=float, default=1 / 3, help="as of the simulator (a third)")
    parser.add_argument("--rules", help="a rules file (those that ship)")
    parser.add_argument("--no-lists", action="store_true", help="without a list of anonymizers")
    parser.add_argument("--processes", type=int, default=2, help="simulations at a time (%(default)s)")
    parser.add_argument("--explain", action="store_true", help="also what was missed, and which rules cried wolf")
    parser.add_argument("--fade", type=Path, metavar="FILE", help="draw early recall by intensity into this file")
    args = parser.parse_args()
    rules = read(args.rules, None if args.no_lists else anonymizers())
    if args.fade:
        draw(args.fade, fade(rules, args.processes))
        return
    configs = [
        SimulationConfig(args.users, seed=s, attack_rate=args.attack_rate, label_events=True) for s in args.seeds
    ]
    found = list(evaluate_all(configs, rules, args.processes))
    print(f"seeds {', '.join(map(str, args.seeds))}, {args.users:,} users and a day each, rules {rules.version}")
    print_table(found)
    if args.explain:
        explain(found)


def read(path: str | None, lists: ListSet | None) -> RuleSet:
    """The rules in a file, or those that ship, with lists."""
    file = Path(path) if path else Path(in_memory.__file__).parent / "rules" / DEFAULT
    return load_rules(file.read_text("utf-8"), str(file), lists=lists or NO_LISTS)


def anonymizers() -> ListSet:
    """The list that a provider of addresses of anonymizers would sell: three of four of the simulation's."""
    entries = "".join(f"      - {network}\n" for network in known_anonymizers())
    text = f"lists:\n  - name: anonymizers\n    kind: reference\n    field: ip\n    entries:\n{entries}"
    files: dict[str, bytes] = {}
    tables: dict[str, list[RawEntry]] = {}
    return load_lists(text, Outside(files.__getitem__, tables.__getitem__), "anonymizers")


def evaluate_all(configs: Iterable[SimulationConfig], rules: RuleSet, processes: int) -> Iterator[Found]:
    """Evaluates simulations, some at a time, in their order."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(evaluate, rules=rules), configs)


def evaluate(config: SimulationConfig, rules: RuleSet) -> Found:
    """Scores a simulation in memory and compares with its truth."""
    truth: dict[str, AttackLabel] = {}
    envelopes: list[Envelope] = []
    for arrival in simulate(config):
        if arrival.label is not None:
            truth[arrival.label.event_id] = arrival.label
        parsed = parse(Message(arrival.payload, arrival.received_ms, "simulation"))
        if isinstance(parsed, Envelope):
            envelopes.append(parsed)
    first: dict[tuple[str, str], Score] = {}
    last: dict[tuple[str, str], Score] = {}
    for score in in_memory.scores(envelopes, rules):
        key = (score.record.event.user_id, score.record.event.event_id)
        first.setdefault(key, score)
        last[key] = score
    decisions = [
        Decision(key[1], one.record.event.event_time_ms, one.record.received_ms, first[key].action, one.action)
        for key, one in last.items()
    ]
    found = detection(decisions, truth.values())
    tags = {rule.id: rule.tags for rule in rules.rules}
    by_rule, by_tag = Counter[str](), Counter[str]()
    for (_, event_id), one in last.items():
        day = one.record.event.event_time_ms // DAY_MS
        if one.action != "allow" and event_id not in truth and day in found.days:
            by_rule.update(rule.rule_id for rule in one.fired)
            by_tag.update({tag for rule in one.fired for tag in tags.get(rule.rule_id, ())})
    mules = mules_in_time(last.values(), truth)
    return Found(config.seed, found, by_rule, by_tag, mules)


def mules_in_time(scores: Iterable[Score], truth: dict[str, AttackLabel]) -> tuple[int, int]:
    """How many mules were flagged on an event before their second transfer out; and how many there are."""
    of_attack: dict[str, list[Score]] = {}
    for score in scores:
        label = truth.get(score.record.event.event_id)
        if label is not None and label.scenario == "mule_account":
            of_attack.setdefault(label.attack_id, []).append(score)
    caught = 0
    for own in of_attack.values():
        own.sort(key=lambda score: score.record.event.event_time_ms)
        accounts = {event.payee_id for s in own if isinstance(event := s.record.event, Payment)}
        out = [i for i, score in enumerate(own) if score.record.event.user_id in accounts]
        caught += any(score.action != "allow" for score in own[: out[1] if len(out) > 1 else len(own)])
    return caught, len(of_attack)


def print_table(found: list[Found]) -> None:
    """Attacks caught and false alarms by scenario."""
    attacks = [attack for each in found for attack in each.detection.attacks]
    normal = sum(each.detection.normal_events for each in found)
    flagged = sum(each.detection.normal_flagged for each in found)
    by_tag = sum((each.by_scenario for each in found), Counter[str]())
    print(f"{'scenario':20}{'attacks':>8}{'caught':>8}{'early':>8}{'false alarms':>14}")
    for row in [*by_scenario(attacks), count("all", attacks)]:
        alarms = flagged if row.name == "all" else by_tag[row.name]
        print(
            f"{row.name:20}{row.attacks:8,}{row.caught / row.attacks:8.0%}{row.caught_early / row.attacks:8.0%}"
            f"{alarms / normal:14.3%}"
        )
    in_time, mules = (sum(each.in_time[i] for each in found) for i in (0, 1))
    print(
        "early: flagged before half of the attack's events were through; false alarms: share of normal events flagged"
    )
    print(
        f"normal events {normal:,}, flagged {flagged:,}; mules flagged before the second transfer: {in_time} of {mules}"
    )


def explain(found: list[Found]) -> None:
    """What was missed, and which rules cried wolf."""
    for each in found:
        for attack in each.detection.attacks:
            if not attack.caught_early:
                when = "late" if attack.caught else "missed"
                print(f"{when}, seed {each.seed}: {attack.attack_id} at {attack.intensity}, {attack.events} events")
    for rule_id, events in sum((each.by_rule for each in found), Counter[str]()).most_common():
        print(f"{events:6,} of the flagged normal events: {rule_id}")


def fade(rules: RuleSet, processes: int) -> dict[str, list[tuple[float, int, int]]]:
    """Scenarios to intensity, attacks caught early and attacks, over the held-out seeds in turn."""
    names = list(load_scenarios())
    configs = [
        SimulationConfig(
            1000,
            seed=HELD_OUT[number % len(HELD_OUT)] + 10,
            attacks={name: AttackPlan(intensity=intensity, count=15) for name in names},
            label_events=True,
        )
        for number, intensity in enumerate(FADE_INTENSITIES)
    ]
    curves: dict[str, list[tuple[float, int, int]]] = {name: [] for name in names}
    for intensity, each in zip(FADE_INTENSITIES, evaluate_all(configs, rules, processes), strict=True):
        for row in by_scenario(each.detection.attacks):
            curves[row.name].append((intensity, row.caught_early, row.attacks))
        total = count("all", each.detection.attacks)
        print(f"intensity {intensity}: {total.caught_early / total.attacks:.0%} caught early")
    for name, points in curves.items():
        print(f"{name:20}" + "".join(f"{early / attacks:6.0%}" for _, early, attacks in points))
    return curves


def draw(path: Path, curves: dict[str, list[tuple[float, int, int]]]) -> None:
    """A small plot for each scenario: early recall by intensity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots(3, -(-len(curves) // 3), sharex=True, sharey=True).flat
    for axis, (name, points) in zip(axes, sorted(curves.items()), strict=False):
        shares = [early / attacks for _, early, attacks in points]
        axis.axhline(0.9, color="#bbbbbb", linewidth=1)
        axis.plot([intensity for intensity, _, _ in points], shares, marker="o", markersize=3, color="#1f5fa8")
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_ylim(-0.03, 1.03)
    figure.supxlabel("intensity: slow and careful to fast and loud")
    figure.supylabel("attacks caught before half of their events were through")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
