"""`accelerate launch … -m bankllm.training`: the command of `commands.py`, run once per process."""

import sys

import typer

from bankllm.errors import BankLLMError
from bankllm.training import distributed
from bankllm.training.commands import train

if __name__ == "__main__":
    try:
        typer.run(train)
    except BankLLMError as error:
        if distributed.is_main():
            sys.stderr.write(f"Error: {error}\n")
        sys.exit(error.exit_code)
