"""Plans of the tools that change a card: freeze, unfreeze, report as lost or stolen, replace, and set the limit."""

import secrets

from bankllm.assistant.actions.plans import (
    HELD,
    ActionRefused,
    Applied,
    Apply,
    Plan,
    Situation,
    Wanted,
    check_currency,
    choose,
    read_amount,
)
from bankllm.assistant.bank.ledger import Card, format_money

MOST_LIMIT_MINOR = 1_000_000
"""Highest spending limit per day: £10,000.00."""
YEARS = 4
"""How long a new card is valid."""


def plan_freeze_card(now: Situation, wanted: Wanted) -> Plan:
    card = _card(now, wanted, "active")
    text = f"Freeze your {card.label}. Nobody can pay with it until you unfreeze it"
    return _status_plan(now, card, "frozen", {}, text, "You can unfreeze it at any time.")


def plan_unfreeze_card(now: Situation, wanted: Wanted) -> Plan:
    card = _card(now, wanted, "frozen")
    if card.expires < f"{now.today:%Y-%m}":
        raise ActionRefused(f"Your {card.label} expired in {card.expires}. Ask me for a new card.")
    return _status_plan(now, card, "active", {}, f"Unfreeze your {card.label}", "You can pay with it again.")


def plan_report_card(now: Situation, wanted: Wanted) -> Plan:
    kind = wanted.get("kind")
    if kind not in ("lost", "stolen"):
        raise ActionRefused("Was the card lost or stolen?")
    card = _card(now, wanted, "active", "frozen")
    text = f"Report your {card.label} as {kind}. It is then blocked for good"
    return _status_plan(now, card, kind, {"kind": kind}, text, "Nobody can pay with it. Ask me for a new card.")


def plan_replace_card(now: Situation, wanted: Wanted) -> Plan:
    card = _card(now, wanted, "active", "frozen", "lost", "stolen", "expired")
    same = (card.account_id, card.kind)
    if any(
        (other.account_id, other.kind) == same for other in now.bank.cards(now.customer_id) if other.status == "ordered"
    ):
        raise ActionRefused(f"A new card for your {card.label} is already on its way.")

    def apply(action_id: str) -> Applied:
        now.db.execute(
            "INSERT INTO cards SELECT ?, customer_id, account_id, kind, name, ?, 'ordered', ?, ?, limit_minor "
            "FROM cards WHERE card_id = ?",
            (
                f"CARD-{action_id[:12]}",
                f"{1000 + secrets.randbelow(9000)}",
                now.today.isoformat(),
                f"{now.today.year + YEARS}-{now.today:%m}",
                card.card_id,
            ),
        )
        return "It should arrive within a week.", None

    return Plan({"card_id": card.card_id}, f"Order a new card in place of your {card.label}", apply)


def plan_set_limit(now: Situation, wanted: Wanted) -> Plan:
    card, amount = _card(now, wanted, "active", "frozen"), read_amount(wanted)
    check_currency(wanted, card.currency, f"Your {card.label}")
    if amount > MOST_LIMIT_MINOR:
        most = format_money(MOST_LIMIT_MINOR, card.currency)
        raise ActionRefused(f"A limit can be at most {most} a day.")
    if amount == card.limit_minor:
        raise ActionRefused(f"The limit of your {card.label} is that already.")
    if now.held and amount > card.limit_minor:
        raise ActionRefused(HELD)
    old, new = (format_money(minor, card.currency) for minor in (card.limit_minor, amount))
    arguments = {"card_id": card.card_id, "amount_minor": amount, "currency": card.currency}
    text = f"Set the limit of your {card.label} to {new} a day, instead of {old}"
    return Plan(arguments, text, _update(now, card, "limit_minor = ?", amount, then="It applies at once."))


def _status_plan(now: Situation, card: Card, status: str, more: dict[str, str], text: str, then: str) -> Plan:
    apply = _update(now, card, "since = ?, status = ?", now.today.isoformat(), status, then=then)
    return Plan({"card_id": card.card_id, **more}, text, apply)


def _update(now: Situation, card: Card, columns: str, *values: object, then: str) -> Apply:
    def apply(action_id: str) -> Applied:
        now.db.execute(f"UPDATE cards SET {columns} WHERE card_id = ?", (*values, card.card_id))
        return then, None

    return apply


def _card(now: Situation, wanted: Wanted, *statuses: str) -> Card:
    """The card that the call names, or the only one with one of these statuses. Raises `ActionRefused`."""
    cards = now.bank.cards(now.customer_id)
    given = wanted.get("card_id")
    for card in cards:
        if card.card_id == given and card.status not in statuses:
            raise ActionRefused(f"Your {card.label} is {card.status}, so this is not possible.")
    able = [card for card in cards if card.status in statuses]
    return choose(able, given, "card", "card_id", "label")
