"""Every error that bankllm raises on purpose: each message says what was expected, what came, what to do."""


class BankLLMError(Exception):
    """Base of all errors below; the CLI prints it without a traceback and exits with `exit_code`."""

    exit_code = 1


class UsageError(BankLLMError):
    """The call itself is wrong: an unknown profile, parameter or option."""

    exit_code = 2


class DataError(BankLLMError):
    """A data set is missing, damaged, or not the one that is meant."""


class DataMissing(DataError):
    """A data set is not on this machine and could not be fetched (nothing is damaged)."""


class ModelError(BankLLMError):
    """A base model or an adapter is missing, damaged, or not the one that is meant."""


class StoreError(BankLLMError):
    """A vector store or ledger cannot be read or written."""


class ServerError(BankLLMError):
    """A server could not be started or did not answer."""


class RunError(BankLLMError):
    """A run's folder cannot be written, is incomplete, or does not hold what it should."""


class NotMeasured(BankLLMError):
    """Something that a measurement needs is absent here (a tool, a device, a key): the record says so."""
