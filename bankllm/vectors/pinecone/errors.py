"""Errors of Pinecone calls, by remedy: retry later, fix the key, use another index, fix the record, or investigate.

with pinecone_errors("bankllm"):
    index.upsert(...)
"""

from collections.abc import Iterator
from contextlib import contextmanager

from bankllm.errors import StoreError, UsageError

REFUSED = frozenset({400, 413, 422})
"""HTTP status codes that mean that a retry of the same call cannot succeed."""


class KeyRefused(StoreError):
    """Pinecone rejects the API key, or the key lacks a permission; calls fail until an operator fixes it."""


class IndexMismatch(StoreError):
    """The index was created for another embedder, dimension, metric or layout."""


class CallRefused(StoreError):
    """Pinecone rejects the content of this call; a retry cannot succeed."""


class ForeignRecord(StoreError):
    """Pinecone returned a record of another customer."""


@contextmanager
def pinecone_errors(index_name: str) -> Iterator[None]:
    """Convert the SDK's exceptions to `StoreError` or `UsageError`; messages never contain the API key."""
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
        raise KeyRefused(f"{name} rejected the API key. Check PINECONE_API_KEY and the key's project.") from error
    except ForbiddenError as error:
        raise KeyRefused(
            f"{name} denied the call ({error}). Check the permissions of the API key and the limits of the plan."
        ) from error
    except (PineconeConnectionError, PineconeTimeoutError) as error:
        raise StoreError(f"{name} does not answer ({error}). Check the network and try again.") from error
    except (PineconeTypeError, PineconeValueError) as error:
        raise UsageError(f"{name} call has an invalid argument: {error}. Correct the argument.") from error
    except PineconeError as error:
        if isinstance(error, ApiError) and error.status_code in REFUSED:
            raise CallRefused(f"{name} rejected the call: {error}. Correct the value that the error names.") from error
        raise StoreError(f"{name} failed: {error}. Try again later; check Pinecone's status page.") from error
