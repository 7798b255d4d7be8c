"""The entity stage on Beam: state cells, the timer that reclaims them, labels, the batch path, and new entities."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from entity_oracle import OracleEntity, differing, id_hash
from hypothesis import given
from strategies import pipelines
from test_entity_laws import ACCOUNT, LEAPS_MS, MERCHANT, STEPS_MS, Op, arrivals

from fraud_pipeline import local_runner
from transforms.enrich import EnrichByEntities, EnrichByEntity
from transforms.entities import DEFAULT_ENTITIES, EntityConfig, load_entities
from transforms.entity_keys import EntityKeys
from transforms.entity_machine import SLACK_MS
from transforms.events import Envelope, Event, Label, Login, Payment

local_runner.install()

ZERO = 1_700_000_000_000

COLLECTED: list[tuple[Envelope, float]] = []


def collect(envelope: Envelope, at: Any = beam.DoFn.TimestampParam) -> None:
    COLLECTED.append((envelope, float(at)))


def stamped(envelope: Envelope) -> TimestampedValue[Envelope]:
    return TimestampedValue(envelope, Timestamp(micros=envelope.event.event_time_ms * 1000))


def wrapped(event: Event) -> Envelope:
    """The event in a message that decodes to it."""
    values = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None}
    values["event_time"] = values.pop("event_time_ms")
    if isinstance(event, Label):
        values["target_event_time"] = values.pop("target_event_time_ms")
    return Envelope(event, msgspec.json.encode(values), event.event_time_ms, "test", 1)


def run_stream(stage: Any, stream: test_stream.TestStream) -> list[Envelope]:
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as pipeline:
        _ = pipeline | stream | "Stage" >> stage | beam.Map(collect)
    return [envelope for envelope, _ in COLLECTED]


def run_batch(stage: Any, envelopes: list[Envelope]) -> list[Envelope]:
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner") as pipeline:
        _ = pipeline | beam.Create(envelopes) | beam.Map(stamped) | "Stage" >> stage | beam.Map(collect)
    return [envelope for envelope, _ in COLLECTED]


def stream_of(envelopes: list[Envelope]) -> test_stream.TestStream:
    stream = test_stream.TestStream()
    for envelope in envelopes:
        stream.add_elements([stamped(envelope)])
    return stream.advance_watermark_to_infinity()


def payment(event_id: str, second: float, **fields: Any) -> Payment:
    values: dict[str, Any] = {"user_id": "u0", "amount_minor": 100, "currency": "EUR", **fields}
    return Payment(event_id=event_id, event_time_ms=ZERO + round(second * 1000), **values)


def login(event_id: str, second: float, **fields: Any) -> Login:
    values: dict[str, Any] = {"user_id": "u0", "outcome": "failure", **fields}
    return Login(event_id=event_id, event_time_ms=ZERO + round(second * 1000), **values)


def named(config: EntityConfig, envelope: Envelope) -> dict[str, Any]:
    """The entity features that an event has a value of, by name."""
    pairs = zip((f.name for f in config.features), envelope.entity_features, strict=True)
    return {name: value for name, value in pairs if value is not None}


SMALL = load_entities(
    """
entities:
  ip: {key: ip, features: {event_count: [10s, 1h], distinct_user_count: [1h]}}
  network: {key: network, features: {event_count: [1h]}}
  card: {key: card_id, features: {payment_count: [1h], dispute_count: {aggregate: fraud_count, delay: 0s, windows: 1h}}}
""",
    "small.yaml",
)


def test_events_pass_with_the_features_of_each_entity_in_the_order_declared() -> None:
    events = [
        login("a", 0, ip="192.0.2.1"),
        login("b", 1, ip="192.0.2.1", user_id="u1"),
        login("c", 2, ip="192.0.2.77"),
        login("d", 3),
        payment("e", 4, ip="192.0.2.1", card_id="c1"),
    ]
    passed = run_stream(EnrichByEntities(SMALL), stream_of([wrapped(e) for e in events]))
    found = {e.event.event_id: named(SMALL, e) for e in passed}
    assert found == {
        "a": {
            "ip_event_count_10s": 1,
            "ip_event_count_1h": 1,
            "ip_distinct_user_count_1h": 1,
            "network_event_count_1h": 1,
        },
        "b": {
            "ip_event_count_10s": 2,
            "ip_event_count_1h": 2,
            "ip_distinct_user_count_1h": 2,
            "network_event_count_1h": 2,
        },
        "c": {
            "ip_event_count_10s": 1,
            "ip_event_count_1h": 1,
            "ip_distinct_user_count_1h": 1,
            "network_event_count_1h": 3,
        },
        "d": {},
        "e": {
            "ip_event_count_10s": 3,
            "ip_event_count_1h": 3,
            "ip_distinct_user_count_1h": 2,
            "network_event_count_1h": 4,
            "card_payment_count_1h": 1,
            "card_dispute_count_1h": 0,
        },
    }
    assert {e.event.event_id: at for e, at in COLLECTED} == {e.event_id: e.event_time_ms / 1000 for e in events}
    assert [e.entity_approximate for e in passed] == [False] * 5


def test_a_label_updates_its_payments_entity_and_goes_on_once_as_it_came() -> None:
    verdict = Label(
        event_id="l",
        user_id="u0",
        event_time_ms=ZERO + 5_000,
        target_event_id="a",
        target_event_time_ms=ZERO,
        is_fraud=True,
        source="chargeback",
        card_id="c1",
        ip="192.0.2.1",
    )
    events: list[Event] = [payment("a", 0, card_id="c1"), verdict, verdict, payment("b", 6, card_id="c1")]
    passed = run_stream(EnrichByEntities(SMALL), stream_of([wrapped(e) for e in events]))
    assert [e for e in passed if e.event == verdict] == [wrapped(verdict)] * 2
    answers = {e.event.event_id: named(SMALL, e) for e in passed if e.event != verdict}
    assert answers["a"]["card_dispute_count_1h"] == 0
    assert answers["b"] == {"card_payment_count_1h": 2, "card_dispute_count_1h": 1}


def test_money_out_right_after_money_in_from_many_is_seen_on_the_first_transfer() -> None:
    incoming = [payment(f"in{n}", n, user_id=f"payer{n}", payee_id="mule", amount_minor=10_000 + n) for n in range(8)]
    outgoing = [payment(f"out{n}", 40 + n, user_id="mule", payee_id=f"x{n}", amount_minor=40_000) for n in range(2)]
    passed = run_stream(EnrichByEntities(DEFAULT_ENTITIES), stream_of([wrapped(e) for e in (*incoming, *outgoing)]))
    assert len(passed) == 10, "an event that feeds another account passes once"
    first, second = (named(DEFAULT_ENTITIES, e) for e in passed if e.event.user_id == "mule")
    assert first["account_distinct_payer_count_10m"] == 8
    assert first["account_incoming_count_1m"] == 8
    assert first["account_incoming_amount_minor_1m"] == sum(p.amount_minor for p in incoming)
    assert first["account_outgoing_amount_minor_1m"] == 40_000
    assert second["account_outgoing_count_1m"] == 2
    assert passed[7].entity_features[0] is None
    assert named(DEFAULT_ENTITIES, passed[7])["payee_distinct_user_count_10m"] == 8


PROMOTED = """
entities:
  promo_code:
    key: attributes.promo_code
    features: {event_count: [1h], distinct_user_count: [1h]}
  driver:
    key: attributes.driver_id
    features: {payment_amount_minor: [1d]}
"""


def test_a_new_entity_is_a_few_lines_of_configuration() -> None:
    config = load_entities(PROMOTED, "mine.yaml")
    assert [f.name for f in config.features] == [
        "promo_code_event_count_1h",
        "promo_code_distinct_user_count_1h",
        "driver_payment_amount_minor_1d",
    ]
    events = [
        login("a", 0, attributes={"promo_code": "WELCOME"}),
        login("b", 1, user_id="u1", attributes={"promo_code": "WELCOME"}),
        payment("c", 2, attributes={"driver_id": 7}),
        payment("d", 3, attributes={"driver_id": 7, "promo_code": "OTHER"}),
    ]
    passed = run_stream(EnrichByEntities(config), stream_of([wrapped(e) for e in events]))
    assert [e.entity_features for e in sorted(passed, key=lambda e: e.event.event_id)] == [
        (1, 1, None),
        (2, 2, None),
        (None, None, 100),
        (1, 1, 200),
    ]


def test_state_is_reclaimed_by_the_watermark_once_it_is_idle() -> None:
    entity = SMALL.entities[0]
    keep_seconds = (entity.horizon_ms + SLACK_MS) / 1000
    stream = (
        test_stream.TestStream()
        .add_elements([stamped(wrapped(login("a", 0, ip="192.0.2.1")))])
        .add_elements([stamped(wrapped(login("b", 100, ip="192.0.2.1")))])
        .advance_watermark_to(ZERO / 1000 + keep_seconds + 99)
        .add_elements([stamped(wrapped(login("c", 90, ip="192.0.2.1")))])
        .advance_watermark_to(ZERO / 1000 + keep_seconds + 101)
        .add_elements([stamped(wrapped(login("d", 95, ip="192.0.2.1")))])
        .advance_watermark_to_infinity()
    )
    counts = {e.event.event_id: e.entity_features[1] for e in run_stream(EnrichByEntity(entity), stream)}
    assert counts == {"a": 1, "b": 2, "c": 2, "d": 1}, "c still finds a; d comes to an empty state"


def oracle_answers(entity: Any, ops: list[Op], in_order: bool) -> dict[str, tuple[Any, ...]]:
    """What each event must get: over what came before it, or in the batch path over all."""
    oracle = OracleEntity(entity)
    if in_order:
        for event, _ in ops:
            oracle.accept(event)
        return {e.event_id: oracle.answer(e) for e, _ in ops if not isinstance(e, Label)}
    answers = {}
    for event, _ in ops:
        oracle.accept(event)
        if not isinstance(event, Label):
            answers[event.event_id] = oracle.answer(event)
    return answers


def of_merchant(ops: list[Op]) -> list[Op]:
    """The events with the merchant they are of; logins reach it by an attribute of their own."""
    seen: dict[str, Op] = {}
    for event, role in ops:
        if isinstance(event, Payment | Label):
            seen.setdefault(event.event_id, (type(event)(**{**fields(event), "merchant_id": "m1"}), role))
    return list(seen.values())


def fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


@pipelines()
@given(arrivals(STEPS_MS))
def test_law_1_on_beam(ops: list[Op]) -> None:
    ops = of_merchant(ops)
    passed = run_stream(EnrichByEntity(MERCHANT), stream_of([wrapped(event) for event, _ in ops]))
    want = oracle_answers(MERCHANT, ops, in_order=False)
    assert len(passed) == len(ops)
    for envelope in passed:
        if not isinstance(envelope.event, Label):
            assert not differing(MERCHANT, envelope.entity_features, want[envelope.event.event_id])


@pipelines()
@given(arrivals(LEAPS_MS))
def test_law_8_the_batch_path_gives_what_a_stream_in_order_gives(ops: list[Op]) -> None:
    ops = of_merchant(ops)
    batch = run_batch(EnrichByEntity(MERCHANT, bounded=True), [wrapped(event) for event, _ in ops])
    want = oracle_answers(MERCHANT, ops, in_order=True)
    assert len(batch) == len(ops)
    for envelope in batch:
        if not isinstance(envelope.event, Label):
            assert not differing(MERCHANT, envelope.entity_features, want[envelope.event.event_id])
    ordered = sorted(
        (e for e, _ in ops), key=lambda e: (e.event_time_ms, not isinstance(e, Label), id_hash(e.event_id))
    )
    stream = run_stream(EnrichByEntity(MERCHANT), stream_of([wrapped(event) for event in ordered]))
    assert {e.event.event_id: e.entity_features for e in stream} == {e.event.event_id: e.entity_features for e in batch}


def test_an_event_that_names_one_account_twice_counts_once() -> None:
    keys = EntityKeys(ACCOUNT)
    own = payment("a", 0, user_id="u1", payee_id="u1")
    other = payment("b", 0, user_id="u1", payee_id="u2")
    assert (keys.own(own), keys.fed(own)) == ("u1", None)
    assert (keys.own(other), keys.fed(other)) == ("u1", "u2")
    assert keys.fed(login("c", 0)) is None
