"""`bankllm chat`: the conversation of the chat page in a terminal, with the assistant in this process."""

import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from bankllm.settings import get_settings

COLUMNS = {
    "balance": ("name", "balance_minor", "available_minor"),
    "card_status": ("name", "last4", "status", "expires", "limit_minor"),
    "spending": ("booked", "description", "amount_minor"),
    "standing_orders": ("name", "next_due", "amount_minor"),
    "transactions": ("booked", "description", "category", "amount_minor"),
}
"""Tool → fields of its rows that the table shows."""
SHOWN_ROWS = 20


def chat(
    customer: Annotated[str, typer.Option(help="Customer whose accounts are asked about.")] = "CUST001",
    message: Annotated[list[str] | None, typer.Argument(help="One message; without it, a conversation begins.")] = None,
) -> None:
    """Chat with the assistant in the terminal. An empty line or Ctrl-D ends the conversation."""
    from rich.console import Console

    from bankllm.assistant.engine import ChatEngine

    console = Console(highlight=False)
    with console.status("Loading the models …"):
        engine = ChatEngine.load(get_settings())
    with closing(engine):
        engine.bank.require(customer)
        conversation = None
        if message:
            _turn(engine, console, " ".join(message), customer, conversation)
            return
        console.print(f"You are {customer}. Ask about your money, or write “freeze my card”. An empty line ends it.")
        while text := _read(console):
            conversation = _turn(engine, console, text, customer, conversation)


def _read(console: Any) -> str:
    try:
        return str(console.input("\n[bold]You:[/] ")).strip() if sys.stdin.isatty() else sys.stdin.readline().strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _turn(engine: Any, console: Any, text: str, customer: str, conversation: str | None) -> str:
    """Print the reply while it is written, then its tables; return the conversation's id."""
    from bankllm.errors import UsageError

    try:
        pending = engine.begin(text, customer, conversation)
    except UsageError as error:
        console.print(f"{error}", style="red", markup=False)
        return conversation or ""
    shown = ""
    for piece in engine.stream(pending):
        if isinstance(piece, str):
            shown += piece
            console.print(piece, end="", markup=False)
        else:
            reply = piece
    console.print()
    if shown != reply.reply:  # the model's text did not pass the checks
        console.print(reply.reply, markup=False)
    for call in reply.calls:
        rows = (call.result or {}).get("rows", ())
        if call.tool in COLUMNS and len(rows) > 1:
            console.print(_table(rows, COLUMNS[call.tool]))
    if reply.pending_action:
        console.print("yes / no", style="bold")
    return str(reply.conversation_id)


def _table(rows: list[dict[str, Any]], fields: tuple[str, ...]) -> Any:
    from rich.table import Table

    from bankllm.assistant.bank.ledger import format_money

    table = Table(caption=f"{len(rows) - SHOWN_ROWS} more rows" if len(rows) > SHOWN_ROWS else None)
    for field in fields:
        amount = field.endswith("_minor")
        table.add_column(field.removesuffix("_minor").replace("_", " "), justify="right" if amount else "left")
    for row in rows[:SHOWN_ROWS]:
        cells = (format_money(row[f], row["currency"]) if f.endswith("_minor") else str(row[f]) for f in fields)
        table.add_row(*cells)
    return table
