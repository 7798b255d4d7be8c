"""What the result tables hold: every column with type and meaning, partitions, clusters, and the key of a row.

This declaration is the only one. BigQuery, DuckDB, the files, `docs/tables.md` and the check of rows read it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import structs

from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.features import FEATURES, Feature, FeatureType

ColumnType: TypeAlias = Literal["STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP", "BYTES"]
Mode: TypeAlias = Literal["NULLABLE", "REQUIRED", "REPEATED"]


class Column(msgspec.Struct, frozen=True):
    """A column: BigQuery's standard type and mode, and a description for an analyst, with units."""

    name: str
    type: ColumnType
    description: str
    mode: Mode = "NULLABLE"


class Table(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
      partition: the TIMESTAMP column whose days are the partitions.
      cluster: the columns that rows of a day are sorted by.
      key: what tells rows apart. A sink may write a row again after a failure; rows of equal key are one row, and
        the views count them once.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    partition: str
    cluster: tuple[str, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
          KeyError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def _required(name: str, type: ColumnType, description: str) -> Column:
    return Column(name, type, description, "REQUIRED")


def _list(name: str, description: str) -> Column:
    return Column(name, "STRING", description, "REPEATED")


_USER = _required("user_id", "STRING", "The user.")
_EVENT = _required("event_id", "STRING", "The event, unique within the user.")
_EVENT_TIME = _required("event_time", "TIMESTAMP", "When the event happened, as its message says.")
_RECEIVED = _required(
    "received_time", "TIMESTAMP", "When its message was received: publish time, or arrival time in a file."
)
_SESSION_ID = _required("session_id", "STRING", "The session: user_id, '@', and the session's start in epoch ms.")
_SESSION_START = _required("session_start", "TIMESTAMP", "Time of the session's first event.")
_SESSION_END = _required(
    "session_end", "TIMESTAMP", "Time of the session's last event plus the gap: the session ends before it."
)
_EMITTED = _required(
    "emitted_time",
    "TIMESTAMP",
    "When the job made this row, by its machine's clock. A repeated row differs here only.",
)
_APPROXIMATE = _required("approximate", "BOOL", "A bound of the state kept was reached and made numbers inexact.")
_SCORE_VERSION = _required(
    "version", "INT64", "Increases with each record of the user; of an event's rows the highest one counts."
)
_TRIGGER_WORDS = (
    "ON_TIME (the watermark passed), INACTIVITY (a silence while the watermark stalled), "
    "LATE (an event after the watermark, within the grace period), FORCED (too many open sessions)"
)

_FEATURE_TYPES: dict[FeatureType, ColumnType] = {"int": "INT64", "float": "FLOAT64", "bool": "BOOL"}

ENTITY_MARK = "Entity feature."
"""How the description of an entity feature's column ends: such a column stays where its entity isn't declared."""


def _feature_column(feature: Feature, mark: str = "") -> Column:
    return Column(feature.name, _FEATURE_TYPES[feature.type], f"{feature.help} Unit: {feature.unit}.{mark}")


FEATURE_COLUMNS: tuple[Column, ...] = tuple(_feature_column(feature) for feature in FEATURES)
"""A column for each feature, in the order of `transforms.features.FEATURES`; nullable, as features come and go."""

ENTITY_COLUMNS: tuple[Column, ...] = tuple(
    _feature_column(feature, f" {ENTITY_MARK}") for feature in DEFAULT_ENTITIES.features
)
"""A column for each feature of the entities that ship; empty where an event has no such entity."""

SCORES = Table(
    name="scores",
    description=(
        "Decisions: a row each time an event is scored. An event is scored when it arrives, and again when a late "
        "event changes what it was scored by. The view latest_scores has one row an event."
    ),
    columns=(
        _EVENT,
        _USER,
        _required("event_type", "STRING", "login, payment, signup (an account is made) or claim (of a promotion)."),
        _EVENT_TIME,
        _RECEIVED,
        _required("scored_time", "TIMESTAMP", "When the job made this row, by its machine's clock."),
        _required(
            "lag_seconds",
            "FLOAT64",
            "scored_time minus event_time, in seconds; the age, where history is run.",
        ),
        _SESSION_ID,
        _SESSION_START,
        _SCORE_VERSION,
        _required("trigger", "STRING", f"EVENT for the answer at arrival; what corrected it: {_TRIGGER_WORDS}."),
        _APPROXIMATE,
        _required("score", "FLOAT64", "Suspicion, 0 to 1."),
        _required("action", "STRING", "allow, review or block."),
        _list("reason_codes", "Reasons of the fired rules, each once."),
        _list("fired_rules", "Ids of the rules that fired; of a list that the event is on, list.<name>."),
        _required("rules_version", "STRING", "Hash of the rules that decided."),
        _list("shadow_rules", "Ids of the rules on trial that matched, without effect; of a list, list.<name>."),
        Column("lists_version", "STRING", "Hash of the deny, allow and watch lists in use; NULL without any."),
        Column("outcome", "STRING", "Of a login: success or failure."),
        Column("amount_minor", "INT64", "Of a payment: the amount, in the currency's minor unit."),
        Column("currency", "STRING", "Of a payment: ISO 4217 code."),
        Column(
            "expected_amount_minor",
            "INT64",
            "Of a payment: the amount expected, in the currency's minor unit.",
        ),
        Column("ip", "STRING", "IP address."),
        Column("device_id", "STRING", "Device."),
        Column("user_agent", "STRING", "User agent."),
        Column("country", "STRING", "Country."),
        Column("latitude", "FLOAT64", "Latitude, degrees."),
        Column("longitude", "FLOAT64", "Longitude, degrees."),
        Column("merchant_id", "STRING", "Of a payment: the merchant."),
        Column("payee_id", "STRING", "Of a payment: the payee."),
        Column("card_id", "STRING", "Of a payment: a token that stands for the card, never its number."),
        Column("referrer_id", "STRING", "Of a signup: who brought the user."),
        Column("promotion_id", "STRING", "Of a claim: the promotion."),
        Column("attributes", "STRING", "What the producer sent beside the fields, as a JSON object."),
        *FEATURE_COLUMNS,
        *ENTITY_COLUMNS,
    ),
    partition="event_time",
    cluster=("user_id", "event_id"),
    key=("user_id", "event_id", "version"),
)

SESSIONS = Table(
    name="sessions",
    description=(
        "Sessions of a user's events: a row each time one is finalized, corrected or retracted. The view "
        "current_sessions has those that stand, one row each."
    ),
    columns=(
        _USER,
        _SESSION_ID,
        _SESSION_START,
        _SESSION_END,
        _required(
            "version",
            "INT64",
            "Increases with each record of the user; of a session's rows the highest one counts.",
        ),
        _required("trigger", "STRING", f"What made the row: {_TRIGGER_WORDS}."),
        _required("retracted", "BOOL", "The session no longer exists: it was joined into another."),
        _required("provisional", "BOOL", "The watermark has not passed yet: an ON_TIME row will follow."),
        _APPROXIMATE,
        _required("event_count", "INT64", "Events."),
        _required("login_count", "INT64", "Logins, failed ones included."),
        _required("login_failure_count", "INT64", "Failed logins."),
        _required("payment_count", "INT64", "Payments."),
        _required(
            "amount_minor",
            "INT64",
            "Sum of payment amounts, each in its currency's minor unit, across currencies.",
        ),
        _required("distinct_ip_count", "INT64", "Different IP addresses."),
        _required("distinct_device_count", "INT64", "Different devices."),
        _EMITTED,
    ),
    partition="session_start",
    cluster=("user_id", "session_id"),
    key=("user_id", "session_id", "version"),
)

SESSION_ROLLUPS = Table(
    name="session_rollups",
    description=(
        "Decisions summed up over each session: a row for each pane, early ones while the session runs. The view "
        "session_rollups_final has the last one of each session. It has the newest score of each event of the session, "
        "but for events that came when the session, they themselves included, was past by more than gap and grace."
    ),
    columns=(
        _USER,
        _SESSION_ID,
        _SESSION_START,
        _SESSION_END,
        _required("event_count", "INT64", "Scored events."),
        _required("max_score", "FLOAT64", "Highest score, 0 to 1."),
        _list("actions", "The different actions: allow, review, block."),
        _list("fired_rules", "Ids of the different rules that fired."),
        _required("pane", "STRING", "EARLY while the session runs, ON_TIME when it is over, LATE after late events."),
        _required("pane_index", "INT64", "Number of the pane within the session, from 0."),
        _required("is_last", "BOOL", "No pane will follow."),
        _EMITTED,
    ),
    partition="session_start",
    cluster=("user_id", "session_id"),
    key=("user_id", "session_start", "session_end", "pane", "pane_index"),
)

ALERTS = Table(
    name="alerts",
    description=(
        "Cases for people: suspicious events of a user, or of what cases are configured to be about, put together. A "
        "row each time a case changes so that somebody should know, each time its number of events has doubled, and "
        "when it is closed. The view current_alerts has one row for each case that stands."
    ),
    columns=(
        _required("alert_id", "STRING", "The case: the same in all its rows."),
        _required("user_id", "STRING", "The user of the leading event, which is the most suspicious one of the case."),
        _SESSION_ID,
        _required("event_id", "STRING", "The leading event, unique within the user."),
        _required("event_time", "TIMESTAMP", "When the leading event happened."),
        _required("score", "FLOAT64", "Suspicion of the leading event, 0 to 1."),
        _required("action", "STRING", "The strictest of its events': review or block; allow where it is withdrawn."),
        _required("severity", "STRING", "Highest severity among the fired rules: low, medium, high or critical."),
        _list("reason_codes", "Reasons of the fired rules, most severe first, each once."),
        _list("fired_rules", "Ids of the rules that fired on any of its events, in the same order."),
        _required("summary", "STRING", "A sentence for people."),
        _required("version", "INT64", "Increases with each row of the case; the highest one counts."),
        _EMITTED,
        Column(
            "status",
            "STRING",
            "open, closed (no event for a cool-down), withdrawn or merged. Null means open.",
        ),
        Column(
            "change",
            "STRING",
            "OPENED, ESCALATED (severity or action grew), EXTENDED (a new reason), CORRECTED (a late "
            "event changed a verdict), REOPENED, GREW (twice the events), CLOSED, WITHDRAWN (all its events are "
            "allowed by now), MERGED.",
        ),
        Column("case_field", "STRING", "What the case is about: user_id, unless configured otherwise."),
        Column("case_key", "STRING", "Which user, or which of what the case is about."),
        Column("first_event_time", "TIMESTAMP", "When the first of its events happened."),
        Column("last_event_time", "TIMESTAMP", "When the last of its events happened."),
        Column("event_count", "INT64", "How many events it has; 0 where it is withdrawn or merged."),
        Column("approximate", "BOOL", "It has more events than are remembered one by one."),
        _list("event_ids", "Its most suspicious events, in order of time; not all where there are many."),
        Column(
            "evidence",
            "STRING",
            "JSON: rules (rule_id, reason_code, severity), features of the leading event that they looked at (name, "
            "value, unit, text), events (event_id, user_id, event_time, what, score, action, fields).",
        ),
        Column("rules_version", "STRING", "Hash of the rules that decided on the leading event."),
        Column("merged_into", "STRING", "Where it is merged: the alert_id that it is part of now."),
    ),
    partition="event_time",
    cluster=("user_id", "event_id"),
    key=("alert_id", "version"),
)

LABELS = Table(
    name="labels",
    description="What later turned out about events. The view current_labels has the last word on each event.",
    columns=(
        _required("event_id", "STRING", "The label's own event."),
        _USER,
        _required("event_time", "TIMESTAMP", "When the verdict was given."),
        _RECEIVED,
        _required("message_source", "STRING", "Where its message came from: a subscription, or file and line."),
        _required("target_event_id", "STRING", "The event that the verdict is on."),
        _required("target_event_time", "TIMESTAMP", "When that event happened."),
        _required("is_fraud", "BOOL", "The verdict."),
        _required("source", "STRING", "Who gave it: chargeback, analyst or customer."),
        Column("merchant_id", "STRING", "The merchant of that event."),
        Column("card_id", "STRING", "The token of that event's card."),
        Column("device_id", "STRING", "The device of that event."),
        Column("ip", "STRING", "The IP address of that event."),
        Column("payee_id", "STRING", "The payee of that event."),
    ),
    partition="event_time",
    cluster=("user_id", "target_event_id"),
    key=("user_id", "event_id", "received_time", "message_source"),
)

DEAD_LETTERS = Table(
    name="dead_letters",
    description=(
        "Messages that were not scored, with the reason, whole, so that they can be replayed after a fix. Partitioned "
        "by the day of receipt, as one that can't be read has no event time, or one of the year 1. One whose payload "
        "BigQuery can't hold in a row is several rows, its parts."
    ),
    columns=(
        _required("dead_letter_id", "STRING", "The dead letter: made of its payload, source, receipt and reason."),
        _required("reason", "STRING", "Reason code, such as NOT_JSON, MISSING_FIELD, TOO_LATE, DUPLICATE."),
        Column("field", "STRING", "The field at fault; empty where the message as a whole is."),
        _required("message", "STRING", "What is wrong and how to mend it."),
        _required("payload", "BYTES", "The message's bytes, exactly as received."),
        Column("event_id", "STRING", "The event, where it is known."),
        Column("user_id", "STRING", "The user, where it is known."),
        Column("event_time", "TIMESTAMP", "When the event happened, where it is known."),
        _RECEIVED,
        _required("source", "STRING", "Where the message came from: a subscription, or file and line."),
        _required("part", "INT64", "Which part of the payload this row holds, from 0."),
        _required("part_count", "INT64", "How many rows hold the payload: nearly always 1."),
    ),
    partition="received_time",
    cluster=("reason", "user_id"),
    key=("dead_letter_id", "part"),
)

INTAKE = Table(
    name="intake",
    description="How many messages came in, counted before anything is done with them: what the ledger starts from.",
    columns=(
        _required("count_id", "STRING", "The count, unique."),
        _required("received_time", "TIMESTAMP", "When the messages were received: all on the same day (UTC)."),
        _required("message_count", "INT64", "Messages."),
    ),
    partition="received_time",
    cluster=("count_id",),
    key=("count_id",),
)

TABLES: dict[str, Table] = {
    table.name: table for table in (SCORES, SESSIONS, SESSION_ROLLUPS, ALERTS, LABELS, DEAD_LETTERS, INTAKE)
}
"""All tables by name; a name is also the field of the graph's outputs that fills it, except `rollups`."""


def tables_for(entities: EntityConfig) -> dict[str, Table]:
    """All tables by name, with columns of the scores for the features of these entities beside those that ship."""
    known = {column.name for column in SCORES.columns}
    more = [_feature_column(f, f" {ENTITY_MARK}") for f in entities.features if f.name not in known]
    if not more:
        return TABLES
    return {**TABLES, SCORES.name: structs.replace(SCORES, columns=(*SCORES.columns, *more))}
