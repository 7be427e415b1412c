"""`demo:`: the packaged ledger of ten customers, in memory and the same on every machine."""

import sqlite3

from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.knowledge import DATA
from bankllm.assistant.bank.ledger import BANKS

CUSTOMERS = tuple(f"CUST{number:03}" for number in range(1, 11))


@BANKS.register("demo")
def open_demo(_: str) -> SQLiteBank:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript((DATA / "demo_ledger.sql").read_text(encoding="utf-8"))
    return SQLiteBank(connection, f"The demo customers are {CUSTOMERS[0]} to {CUSTOMERS[-1]}.")
