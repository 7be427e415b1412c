"""The commands `bankllm index` and `bankllm search`: a customer's memory, or a collection that all share."""

from pathlib import Path
from typing import Annotated

import typer

from bankllm.errors import DataError, UsageError
from bankllm.settings import get_settings

StoreOption = Annotated[Path, typer.Option(help="SQLite file of the vector store.")]
UserOption = Annotated[str | None, typer.Option(help="Whose memory; a customer's id.")]
CollectionOption = Annotated[str | None, typer.Option(help="Name of a shared collection, such as intents.")]


def index(
    source: Annotated[
        str, typer.Argument(help="A data set (teller77, banking77, auto) or a text file, one text a line.")
    ],
    user: UserOption = None,
    collection: CollectionOption = None,
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Store texts in a customer's memory or in a shared collection."""
    from bankllm.vectors.service import Message, open_service

    _check_target(user, collection)
    texts, intents = _read(source)
    with open_service(store, get_settings()) as service:
        if user is not None:
            turns = [Message(text, intent=intent) for text, intent in zip(texts, intents, strict=True)]
            stored = len(service.store_many(user, turns, progress=True))
        elif collection is not None:
            metadata = [{"intent": intent} if intent else {} for intent in intents]
            stored = len(set(service.collection(collection).add(texts, metadata=metadata, progress=True)))
    typer.echo(f"{stored:,} texts stored {f'for {user}' if user else f'in the collection {collection}'}")


def search(
    query: str,
    user: UserOption = None,
    collection: CollectionOption = None,
    store: StoreOption = Path("bankllm-memory.sqlite"),
    top_k: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Search a customer's memory or a shared collection by meaning."""
    from bankllm.vectors.service import open_service

    _check_target(user, collection)
    if not store.is_file() and get_settings().pinecone_api_key is None:
        raise UsageError(f"No vector store at {store}. Fill one with `bankllm index`, or name another with --store.")
    with open_service(store, get_settings()) as service:
        space = service.collection(collection) if collection is not None else service.for_user(user or "")
        for match in space.search(query, top_k):
            intent = match.metadata.get("intent")
            typer.echo(f"{match.score:.3f}  {match.text}" + (f"  ({intent})" if intent else ""))


def _check_target(user: str | None, collection: str | None) -> None:
    """Before the model is loaded, which takes a while."""
    from bankllm.vectors.namespace import check_name

    if (user is None) == (collection is None):
        raise UsageError(
            f"Expected either a customer or a shared collection, got {'neither' if user is None else 'both'}. Give "
            "--user CUST001 or --collection intents."
        )
    if user is not None:
        check_name("user_id", user)
    if collection is not None:
        check_name("collection name", collection)


def _read(source: str) -> tuple[list[str], list[str]]:
    """Texts and their intents; empty intents where the source is a text file."""
    from bankllm import datasets
    from bankllm.vectors.namespace import MAX_TEXT_CHARACTERS

    path = Path(source)
    if not path.is_file():
        data = datasets.load(source)
        labels = [*data.train.labels, *data.test.labels]
        return [*data.train.texts, *data.test.texts], [data.label_names[label] for label in labels]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text. Expected one text a line; convert it first.") from error
    for number, line in enumerate(lines, 1):
        if len(line.strip()) > MAX_TEXT_CHARACTERS:
            raise DataError(
                f"{path}, line {number} has {len(line.strip())} characters: expected at most {MAX_TEXT_CHARACTERS}; "
                "split it into several lines."
            )
    texts = [line.strip() for line in lines if line.strip()]
    return texts, [""] * len(texts)
