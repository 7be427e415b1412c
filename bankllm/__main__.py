"""Entry point of the command `bankllm` and of `python -m bankllm`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is imported ends it as later: without a traceback, with exit code 130."""
    try:
        from bankllm import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
