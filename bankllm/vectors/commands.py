"""The commands `bankllm index` and `bankllm search`: fill and search a vector store."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bankllm.errors import DataError, UsageError, explained
from bankllm.settings import get_settings
from bankllm.util.text import is_blank
from bankllm.vectors.fusion import Mode

StoreOption = Annotated[Path, typer.Option(help="SQLite file of the vector store.")]
UserOption = Annotated[str | None, typer.Option(help="Customer id, such as CUST001.")]
CollectionOption = Annotated[str | None, typer.Option(help="Name of a shared collection, such as intents.")]


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder with documents (Markdown, text, HTML, PDF) or one of them, a data set (teller77, banking77, "
            "auto), a text file with one text per line, or - (stdin)."
        ),
    ],
    user: UserOption = None,
    collection: CollectionOption = None,
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Store texts in a customer's memory or in a shared collection.

    Documents are stored in a collection as chunks; a second call writes only what changed, and deletes what is gone.
    """
    from bankllm.vectors.service import Message, open_service

    check_target(user, collection)
    if _has_documents(source):
        _index_documents(Path(source).expanduser(), collection, store)
        return
    texts, intents = _read(source)
    with open_service(store, get_settings()) as service:
        if user is not None:
            turns = [Message(text, intent=intent) for text, intent in zip(texts, intents, strict=True)]
            stored = len(service.for_user(user).store_many(turns, progress=True))
        elif collection is not None:
            metadata = [{"intent": intent} if intent else {} for intent in intents]
            stored = len(set(service.collection(collection).add(texts, metadata=metadata, progress=True)))
    typer.echo(f"{stored:,} texts stored {f'for {user}' if user else f'in the collection {collection}'}")


def _has_documents(source: str) -> bool:
    """Whether to read `source` as documents: a text file is a list of texts, and a folder may be a data set."""
    from bankllm import datasets
    from bankllm.vectors.chunking import SUFFIXES

    path = Path(source).expanduser()
    if path.is_dir():
        return source not in datasets.DATASETS and not (path / "train.csv").exists()
    return path.suffix.lower() in SUFFIXES - {".txt"}


def _index_documents(source: Path, collection: str | None, store: Path) -> None:
    from bankllm.vectors.service import open_service

    if collection is None:
        raise UsageError("Documents are shared by all customers. Pass --collection knowledge in place of --user.")
    with open_service(store, get_settings()) as service:
        done = service.collection(collection).add_documents(source, progress=True)
    typer.echo(
        f"{done.documents.read:,} documents, {done.chunks:,} chunks in the collection {collection}: {done.added:,} "
        f"added, {done.removed:,} removed, the others unchanged"
    )
    if done.documents.others:
        typer.echo(f"{done.documents.others:,} files of other types were left out", err=True)
    for fault in done.documents.faults.values():
        typer.echo(f"not indexed: {fault}", err=True)
    if done.documents.faults:
        raise typer.Exit(1)


def search(
    query: Annotated[str, typer.Argument(help="Text to search for.")],
    user: UserOption = None,
    collection: CollectionOption = None,
    store: StoreOption = Path("bankllm-memory.sqlite"),
    top_k: Annotated[int, typer.Option(min=1, help="Number of results.")] = 5,
    mode: Annotated[Mode, typer.Option(help="Rank by meaning (dense), by words (lexical), or by both.")] = "hybrid",
    where: Annotated[str | None, typer.Option(help='Filter as JSON, such as {"intent": "card_arrival"}.')] = None,
) -> None:
    """Search a customer's memory or a shared collection by meaning and words."""
    from bankllm.vectors.filters import Filter
    from bankllm.vectors.service import open_service

    check_target(user, collection)
    try:
        wanted = Filter.parse(json.loads(where)) if where else None
    except json.JSONDecodeError as error:
        raise UsageError(f'Expected --where as JSON such as {{"intent": "card_arrival"}}, got {where}.') from error
    if not store.is_file() and get_settings().pinecone_api_key is None:
        raise UsageError(
            f"There is no vector store at {store}. Create one with `bankllm index`, or pass another file with --store."
        )
    with open_service(store, get_settings()) as service:
        target = service.collection(collection) if collection is not None else service.for_user(user or "")
        matches = target.search(query, top_k, mode=mode, where=wanted)
    for match in matches:
        intent = match.metadata.get("intent")
        source = match.metadata.get("source")
        place = f", page {match.metadata['page']}" if "page" in match.metadata else ""
        note = intent or (f"{source}{place}" if source else "")
        typer.echo(f"{match.score:.3f}  {match.text}" + (f"  ({note})" if note else ""))
    if not matches:
        typer.echo(f"no match: {store} holds no texts of {user or f'the collection {collection}'}", err=True)


def check_target(user: str | None, collection: str | None) -> None:
    """Raises `UsageError` unless one is given. Called first, because loading the model takes seconds."""
    if (user is None) == (collection is None):
        raise UsageError(
            f"Expected either a customer or a shared collection, got {'neither' if user is None else 'both'}. Pass "
            "--user CUST001 or --collection intents."
        )


def _read(source: str) -> tuple[list[str], list[str]]:
    """Return texts and their intents; the intents are empty if the source is a text file."""
    from bankllm import datasets
    from bankllm.vectors.rows import MAX_TEXT_CHARACTERS

    path = Path("/dev/stdin" if source == "-" else source).expanduser()
    if path.suffix and not path.exists():
        raise DataError(
            f"There is no file {path}. Expected a text file with one text per line, or a data set (teller77, "
            "banking77, auto). Check the path."
        )
    if not path.exists() or path.is_dir():
        data = datasets.load(source)
        labels = [*data.train.labels, *data.test.labels]
        return [*data.train.texts, *data.test.texts], [data.label_names[label] for label in labels]
    advice = "Expected a UTF-8 file with one text per line; convert the file first."
    with explained(DataError, f"{path} is not UTF-8 text", advice, UnicodeDecodeError):
        # Unlike `splitlines`, which also ends a line at a form feed, U+0085 or U+2028.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_TEXT_CHARACTERS:
            raise DataError(
                f"{path}, line {number} has {len(line)} characters: expected at most {MAX_TEXT_CHARACTERS}. Split the "
                "line."
            )
    texts = [line for line in lines if not is_blank(line)]
    return texts, [""] * len(texts)
