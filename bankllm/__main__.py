"""Entry point of `python -m bankllm`, which is the same as the command `bankllm`."""

from bankllm.cli import main

main()
