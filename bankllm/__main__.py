"""`python -m bankllm` is the same as the command `bankllm`."""

from bankllm.cli import main

main()
