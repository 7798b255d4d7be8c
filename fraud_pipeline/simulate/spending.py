"""How money is spent: purchases and transfers, by users and in their name."""

from __future__ import annotations

import math
from random import Random

from fraud_pipeline.simulate.drafts import Attack, Draft, payment
from fraud_pipeline.simulate.network import Device, Origin, token
from fraud_pipeline.simulate.people import MERCHANTS_PER_COUNTRY, Merchant, Person, World
from fraud_pipeline.simulate.places import CURRENCY_OF

_MOST_PAYEES = 12


def amount_minor(country: str, dollars: float) -> int:
    """An amount in the minor unit of a country's currency, at least 1."""
    currency = CURRENCY_OF[country]
    return max(1, round(dollars * currency.per_dollar * 10.0**currency.exponent))


def usual_dollars(rng: Random, person: Person) -> float:
    """What the person usually spends at once, in US dollars of buying power."""
    return math.exp(rng.gauss(person.amount_mu, person.amount_sigma))


def choose_merchant(rng: Random, world: World, person: Person, country: str) -> Merchant:
    """A shop: at home mostly a favourite one, the first ones most of all."""
    merchants = world.merchants[country]
    if country == person.city.country and rng.random() < 0.75:
        favourites = person.favourites
        return merchants[favourites[int(rng.random() ** 2 * len(favourites))]]
    count = MERCHANTS_PER_COUNTRY if rng.random() > 0.02 else len(merchants)
    return merchants[int(rng.random() * count)]


def choose_payee(rng: Random, person: Person) -> str:
    """Somebody to send money to: seldom a new one, who is known from then on."""
    payees = person.payees
    if rng.random() < 0.06:
        person.payees = (*payees[-_MOST_PAYEES + 1 :], token(rng, "p-"))
        return person.payees[-1]
    return payees[int(rng.random() * len(payees))]


def choose_card(rng: Random, person: Person) -> str:
    """One of the person's cards; once in a while one of them is replaced by a new one."""
    cards = person.cards
    if rng.random() < 0.004:
        person.cards = (*cards[1:], token(rng, "c-"))
        return person.cards[-1]
    return cards[0] if len(cards) == 1 or rng.random() < 0.8 else cards[-1]


def purchase(
    rng: Random,
    person: Person,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    country: str,
    merchant: Merchant,
    card_id: str,
    dollars: float,
    attack: Attack | None = None,
) -> Draft:
    """A card payment in a shop of a country; where the shop quotes its price, a few pay more or less."""
    amount = amount_minor(country, dollars)
    expected = None
    if merchant.quotes:
        expected = amount if rng.random() < 0.93 else max(1, round(amount * rng.uniform(0.85, 1.02)))
    return payment(
        rng,
        person.user_id,
        time_ms,
        device,
        origin,
        amount_minor=amount,
        currency=CURRENCY_OF[country].code,
        merchant_id=merchant.merchant_id,
        card_id=card_id,
        expected_amount_minor=expected,
        attack=attack,
    )


def transfer(
    rng: Random,
    person: Person,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    payee_id: str,
    dollars: float,
    attack: Attack | None = None,
) -> Draft:
    """Money sent to a payee from the home account, in round amounts."""
    country = person.city.country
    step = 5.0 if dollars >= 10 else 1.0
    return payment(
        rng,
        person.user_id,
        time_ms,
        device,
        origin,
        amount_minor=amount_minor(country, max(step, round(dollars / step) * step)),
        currency=CURRENCY_OF[country].code,
        payee_id=payee_id,
        attack=attack,
    )
