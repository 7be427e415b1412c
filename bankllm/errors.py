"""All errors that bankllm raises on purpose: what was expected, what was found, and what to try next."""

from collections.abc import Iterator
from contextlib import contextmanager


class BankLLMError(Exception):
    """Base class of the errors below. The CLI prints the message without a traceback and exits with `exit_code`."""

    exit_code = 1


class UsageError(BankLLMError):
    """The call itself is wrong: for example an unknown profile, parameter or option."""

    exit_code = 2


class DataError(BankLLMError):
    """A data set is missing, damaged, or not the expected one."""


class DataMissing(DataError):
    """A data set is not on this machine and could not be downloaded. No file is damaged."""


class ModelError(BankLLMError):
    """A base model or an adapter is missing, damaged, or not the expected one."""


class StoreError(BankLLMError):
    """A vector store cannot be read or written."""


class ChainBroken(BankLLMError):
    """An entry of a hash chain was changed, removed, inserted or moved, or is none."""


class LedgerError(BankLLMError):
    """A bank's ledger cannot be read."""


class ServerError(BankLLMError):
    """A server could not be started or did not respond."""


class RunError(BankLLMError):
    """A run folder cannot be written, is incomplete, or has unexpected content."""


class NotMeasured(BankLLMError):
    """A tool, device or key that a measurement needs is missing. The record then has the status `not measured`."""


@contextmanager
def explained(
    kind: type[BankLLMError],
    fault: str,
    advice: str,
    causes: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Turn these exceptions of the block into `kind`, with the message `fault (reason). advice`.

    By default, all exceptions but bankllm's own: those of the libraries for models have no common base class.
    """
    try:
        yield
    except BankLLMError:
        raise
    except causes as error:
        reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:200]}"
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise kind(f"{fault} ({reason}). {advice}") from error
