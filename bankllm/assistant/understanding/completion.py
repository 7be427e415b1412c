"""Add to a call what its schema cannot say or a model left out: the account, and whether money went in or out.

Only words of closed lists and names of the customer's own accounts are used.
"""

import re
from datetime import date

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.slots import P, Slots, brings_in
from bankllm.assistant.understanding.sum_wishes import SUMS, with_exclusion_last

COMPLETED = frozenset(("balance", "spending", "transactions"))
"""Tools whose calls are completed."""
ROWS_OF = patterns("beyond")["rows_of"]
SUBJECTS = frozenset(("merchant", "category"))
"""Arguments that say of what the payments are."""
ROUTES, WAITING = patterns("routes"), patterns("waiting")
ACCOUNT = re.compile(rf"\b(?:{patterns('arguments')['account'].pattern})(?!\w)", re.IGNORECASE)


def completed(call: Call, message: str, customer: CustomerView, today: date) -> Call:
    """Return the only call of a message with what else the message says about it."""
    if call["tool"] == "report_card" and P["still_has"].search(message):
        return {"tool": "freeze_card"} | ({"card": call["card"]} if "card" in call else {})
    if call["tool"] == "report_card" and not P["stolen"].search(message) and not P["lost"].search(message):
        return {name: value for name, value in call.items() if name != "kind"}  # which of both was not said
    if call["tool"] == "standing_orders" and P["coming"].search(message):
        days = Slots(message, {}, today).periods()
        return {**call, "period": days[0]} if days else call
    if call["tool"] not in COMPLETED:
        return call
    added: dict[str, str] = {"period": "this month"} if call["tool"] in SUMS and P["not_yet"].search(message) else {}
    rows = ROWS_OF.search(message) if not call.keys() & SUBJECTS else None
    if rows and fitting(rows[1], customer.names):
        added["merchant"] = rows[1]
    message = with_exclusion_last(message)
    if P["refunds"].search(message) and call["tool"] != "balance":
        call = {name: words for name, words in call.items() if name != "direction"}
        both = P["less_refunds"].search(message) or (
            call["tool"] == "spending" and P["besides_refunds"].search(message)
        )
        added |= {} if both else {"kind": "refund"}
    joint = P["shares_in"].search(message) and any(one.kind == "joint" for one in customer.accounts)
    if account := account_named(message, customer) or ("joint" if joint else None):
        added["account"] = account
        category = call.get("category", "").lower()
        if category in account.lower() and message.lower().count(category) == 1:
            call = {name: words for name, words in call.items() if name != "category"}
    if account and call["tool"] in ("spending", "transactions") and P["pays_off"].search(message):
        kinds = {one.kind for one in accounts_named(account, customer.accounts)}
        paid = {"direction": "in", "kind": "own_transfer"} if kinds == {"credit"} else {}
        return {**call, "account": account, **paid}
    refused = P["not_account"].search(message)
    if refused and accounts_named(refused[1], customer.accounts):
        call = {name: words for name, words in call.items() if name != "account"}
        other = account_named(message.replace(refused[0], " "), customer)
        if other or call["tool"] == "balance":
            added["account"] = other or f"not {refused[1]}"
        else:
            added = {name: words for name, words in added.items() if name != "account"} | {"without": refused[1]}
    elif account and call["tool"] == "spending" and not call.keys() & SUBJECTS and P["put_away"].search(message):
        kinds = {one.kind for one in accounts_named(account, customer.accounts)}
        moves = P["moved_in"].search(message) or (kinds == {"joint"} and P["from_me"].search(message))
        moved = {"kind": "own_transfer"} if moves else {}
        added |= {"direction": "in", **moved} if kinds <= {"savings", "joint", "travel"} else {}
    if call["tool"] != "balance" and not call.keys() & SUBJECTS and P["card_payments"].search(message):
        call = {name: words for name, words in call.items() if name != "direction"}
        added["kind"] = "card"
    known = "direction" in call or "kind" in added or P["pending"].search(message)
    if call["tool"] == "transactions" and not known:
        incoming = brings_in(message) or P["shares_in"].search(message)
        outgoing = P["outgoing"].search(message) and not P["shares_in"].search(message)
        if bool(incoming) != bool(outgoing):
            added["direction"] = "in" if incoming else "out"
    if call["tool"] == "transactions" and (P["single"].search(message) or ROUTES["has_come"].search(message)):
        added["limit"] = "1"
    return {**added, **call} | ({"account": added["account"]} if _is_longer(added, call) else {})


def with_currency(call: Call, message: str) -> Call:
    """Return the call with the word after its amount if that may be another currency: "0.5 BTC" is not 0.5 pounds."""
    amount = re.escape(call.get("amount", ""))
    found = re.search(rf"(?<!\w){amount} ?(?:{P['maybe_currency'].pattern})(?!\w)", message) if amount else None
    return {**call, "amount": found[0]} if found else call


def with_status(call: Call, calls: int, message: str) -> Call:
    """Return the list of payments with the status that the message names: the only call, or one about nothing else."""
    about = call.keys() & {"merchant", "category", "period"}
    wanted = call["tool"] == "transactions" and P["pending"].search(message) and (calls == 1 or not about)
    if not wanted:
        return call
    asked = " ".join(one for one in P["sentence"].split(message) if P["pending"].search(one)) or message
    elsewhere = {name for name in about if call[name] in message and call[name] not in asked}
    return {name: words for name, words in call.items() if name not in elsewhere} | {"status": "pending"}


def account_named(message: str, customer: CustomerView) -> str | None:
    """Return the words for an account that the message names: one that fits exactly one account of the customer."""
    text = f" {plain(message)} "
    names = {label: plain(label) for label in by_label(customer.accounts)}
    short = {label: name.removesuffix(" account") for label, name in names.items() if name.count(" ") > 1}
    named = [label for label, name in (names | short).items() if f" {name} " in text]
    if named:
        return max(named, key=len)
    found = [match[0] for match in ACCOUNT.finditer(message) if len(accounts_named(match[0], customer.accounts)) == 1]
    return found[0] if len(found) == 1 else None


def only_account(message: str, customer: CustomerView) -> str | None:
    """Return the words for an account if the message names nothing else: "no, my own one, not the joint one"."""
    refused = P["not_account"].search(message)
    if refused and accounts_named(refused[1], customer.accounts):
        message = message.replace(refused[0], " ")
    if not (named := account_named(message, customer)):
        return None
    rest = f" {plain(message)} ".replace(f" {plain(named)} ", " ").strip()
    return named if WAITING["around_account"].fullmatch(rest) else None


def _is_longer(added: Call, call: Call) -> bool:
    """Whether the account found is a longer name with the words of the call's ("kids savings" for "savings")."""
    return "account" in added and "account" in call and call["account"].lower() in added["account"].lower()
