"""The data of the *Fraud Detection Handbook*: its payments as messages, and the features that it publishes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec

from transforms.events import Message

TRANSACTIONS_FILE, FEATURES_FILE = "handbook_transactions.parquet", "handbook_features.parquet"
DAY_MS = 86_400_000
LABEL_DELAY_MS = 7 * DAY_MS

COLUMNS = {
    f"{who}_{what}_{days}DAY_WINDOW": (feature.format(days=days), unit)
    for days in (1, 7, 30)
    for who, what, feature, unit in (
        ("CUSTOMER_ID", "NB_TX", "payment_count_{days}d", 1.0),
        ("CUSTOMER_ID", "AVG_AMOUNT", "payment_amount_mean_minor_{days}d", 100.0),
        ("TERMINAL_ID", "NB_TX", "merchant_delayed_payment_count_{days}d", 1.0),
        ("TERMINAL_ID", "RISK", "merchant_fraud_share_{days}d", 1.0),
    )
}
"""The book's columns, each with our feature and how many of our units one of the book's is."""

Row = tuple[int, int, int, int, float, bool]
"""Transaction, time in epoch ms, customer, terminal, amount, fraud."""


def transactions(path: Path) -> list[Row]:
    """The payments in a Parquet file of the book's columns, in the order of time."""
    return duckdb.sql(
        "SELECT TRANSACTION_ID, epoch_ms(TX_DATETIME), CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD = 1 "
        f"FROM read_parquet('{path}') ORDER BY TX_DATETIME, TRANSACTION_ID"
    ).fetchall()


def published(path: Path) -> dict[int, dict[str, float]]:
    """The features in a Parquet file of the book's columns, by transaction."""
    relation = duckdb.sql(f"SELECT * FROM read_parquet('{path}')")
    names = relation.columns
    rows = (dict(zip(names, row, strict=True)) for row in relation.fetchall())
    return {row["TRANSACTION_ID"]: {name: row[name] for name in COLUMNS if row.get(name) is not None} for row in rows}


def ties(rows: Sequence[Row]) -> set[int]:
    """Transactions that share customer and second with another."""
    seen: dict[tuple[int, int], int] = {}
    tied: set[int] = set()
    for transaction, at_ms, customer, *_ in rows:
        if (customer, at_ms) in seen:
            tied |= {transaction, seen[customer, at_ms]}
        seen[customer, at_ms] = transaction
    return tied


def messages(rows: Sequence[Row]) -> Iterator[Message]:
    """The payments and labels as messages, each received when it happens."""
    for transaction, at_ms, customer, terminal, amount, is_fraud in rows:
        payment = {
            "event_id": f"t{transaction}",
            "event_type": "payment",
            "user_id": f"c{customer}",
            "event_time": at_ms,
            "amount_minor": round(amount * 100),
            "currency": "EUR",
            "merchant_id": f"m{terminal}",
        }
        yield Message(msgspec.json.encode(payment), at_ms, "")
        if is_fraud:
            label = {
                "event_id": f"l{transaction}",
                "event_type": "label",
                "user_id": f"c{customer}",
                "event_time": at_ms + LABEL_DELAY_MS,
                "target_event_id": f"t{transaction}",
                "target_event_time": at_ms,
                "merchant_id": f"m{terminal}",
                "is_fraud": True,
                "source": "chargeback",
            }
            yield Message(msgspec.json.encode(label), at_ms + LABEL_DELAY_MS, "")
