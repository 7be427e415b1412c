"""What can go wrong between us and Pinecone, told apart by what helps: time, another key, another record, or nobody.

with pinecone_errors("bankllm"):
    index.upsert(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bankllm.errors import StoreError, UsageError

REFUSED = frozenset({400, 413, 422})
"""Status codes of a call that will be refused however often it is made."""


class KeyRefused(StoreError):
    """Pinecone does not take the key, or not for this; calls fail until somebody sees to it."""


class IndexMismatch(StoreError):
    """The index keeps other vectors, or keeps them in another layout, than was asked for."""


class CallRefused(StoreError):
    """Pinecone refuses this call for good, for what it holds."""


class ForeignRecord(StoreError):
    """Pinecone answered with a record of another customer."""


@contextmanager
def pinecone_errors(index_name: str) -> Iterator[None]:
    """Turn the SDK's errors into ours, without the key."""
    from pinecone.errors import (
        ApiError,
        ForbiddenError,
        PineconeConnectionError,
        PineconeError,
        PineconeTimeoutError,
        PineconeTypeError,
        PineconeValueError,
        UnauthorizedError,
    )

    name = f"Pinecone (index {index_name!r})"
    try:
        yield
    except UnauthorizedError as error:
        raise KeyRefused(f"{name} refused the key. Check PINECONE_API_KEY and the project it belongs to.") from error
    except ForbiddenError as error:
        raise KeyRefused(f"{name} forbids this ({error}). Check what the key may do, and the plan's limits.") from error
    except (PineconeConnectionError, PineconeTimeoutError) as error:
        raise StoreError(f"{name} does not answer ({error}). Check the network and try again.") from error
    except (PineconeTypeError, PineconeValueError) as error:
        raise UsageError(f"{name} does not take this call: {error}.") from error
    except PineconeError as error:
        if isinstance(error, ApiError) and error.status_code in REFUSED:
            raise CallRefused(f"{name} refuses this call: {error}. Correct what it names.") from error
        raise StoreError(f"{name} failed: {error}. Try again later; Pinecone's status page may say more.") from error
