"""The command line's options for alerts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from fraud_pipeline.alerting.deliver import Delivery
    from fraud_pipeline.alerting.destinations import Destination
    from transforms.cases import CaseConfig

DESTINATION = "pubsub:TOPIC|https://URL|webhook:PLACE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options that say what makes an alert and where it goes."""
    group = parser.add_argument_group(
        "alerts", "one for each case, to the table alerts and to where people look (docs/alerts.md)"
    )
    group.add_argument(
        "--alerts-to",
        action="append",
        metavar=DESTINATION,
        help="also send them there: pubsub:projects/P/topics/T; a URL to POST to; or webhook:env:NAME or webhook:FILE "
        "where the URL is a secret; may be given again",
    )
    add_secret_argument(group)
    group.add_argument(
        "--alerts-include",
        action="append",
        metavar="FIELD",
        help="field of events to tell, such as card_id; `event` for all; may be given again (none)",
    )
    group.add_argument(
        "--alerts-by",
        default="user_id",
        metavar="FIELD",
        help="what cases are about: user_id, card_id, device_id, ip, network (its /24 or /64), merchant_id, payee_id, "
        "referrer_id or promotion_id (user_id)",
    )
    group.add_argument(
        "--alerts-group",
        choices=("reasons", "key"),
        default="reasons",
        help="what makes events one case: reasons in common, or nothing but what it is about (reasons)",
    )
    group.add_argument(
        "--alerts-cooldown-seconds",
        type=float,
        default=3_600,
        metavar="SECONDS",
        help="silence, in event time, after which a further event is another case (3600)",
    )


def add_secret_argument(parser: argparse._ActionsContainer) -> None:
    """Declares the option that says where the secret of webhooks is."""
    parser.add_argument(
        "--alerts-secret",
        action="append",
        metavar="PLACE",
        help="where the secret is that webhooks are signed with: env:NAME, or a file, local or gs://; `none` to send "
        "unsigned; given again, each signs, while receivers change over",
    )


def case_config(args: argparse.Namespace) -> CaseConfig:
    """What makes a case.

    Raises:
      UsageError: an option is wrong.
    """
    from transforms.case_findings import NETWORK, WHOLE_EVENT
    from transforms.cases import CaseConfig
    from transforms.variables import EVENT_MODELS

    include = tuple(dict.fromkeys(args.alerts_include or ()))
    fields = {field for model in EVENT_MODELS.values() for field in model.__struct_fields__}
    known = sorted(fields | {NETWORK, WHOLE_EVENT})
    for field in include:
        if field not in known:
            raise UsageError(f"--alerts-include {field!r} is no field of events; give one of {', '.join(known)}")
    try:
        return CaseConfig(
            key_field=args.alerts_by,
            grouping=args.alerts_group,
            cooldown_seconds=args.alerts_cooldown_seconds,
            include=include,
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" is ")
        option = {"key_field": "--alerts-by", "cooldown_seconds": "--alerts-cooldown-seconds"}.get(name, name)
        raise UsageError(f"{option} is {rest}") from error


def delivery(args: argparse.Namespace) -> Delivery:
    """Where alerts go.

    Raises:
      UsageError: an option is wrong.
    """
    from fraud_pipeline.alerting.deliver import Delivery

    destinations = tuple(dict.fromkeys(args.alerts_to or ()))
    if args.alerts_secret and not destinations:
        raise UsageError("--alerts-secret is for --alerts-to with a URL; give both, or leave it out")
    return Delivery(
        tuple(destination_of(each, args.alerts_secret, "--alerts-to") for each in destinations),
        tuple(dict.fromkeys(args.alerts_include or ())),
    )


def destination_of(text: str, secrets: list[str] | None, option: str) -> Destination:
    """A destination with what it signs with.

    Raises:
      UsageError: it is no destination, or a webhook of which it isn't said what it signs with.
    """
    from fraud_pipeline.alerting.destinations import WebhookDestination, destination
    from fraud_pipeline.alerting.secrets import Place

    places = () if secrets in (None, ["none"]) else tuple(Place(name) for name in secrets or ())
    made = destination(text, places, option)
    if isinstance(made, WebhookDestination) and not secrets:
        raise UsageError(
            f"{option} is a webhook, and --alerts-secret is missing; give env:NAME, a file, or `none` to send unsigned"
        )
    if secrets and len(secrets) > 1 and "none" in secrets:
        raise UsageError("--alerts-secret none stands alone; leave it out, or the others")
    return made
