"""The commands `bankllm index`, `bankllm search` and `bankllm memory`: fill, search and maintain a vector store."""

import json
import math
import re
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bankllm.errors import DataError, UsageError
from bankllm.settings import get_settings
from bankllm.util.atomic_files import atomic_writer, check_writable
from bankllm.util.text import is_blank
from bankllm.vectors.fusion import Mode

if TYPE_CHECKING:
    from bankllm.vectors.sqlite.store import SQLiteStore

StoreOption = Annotated[Path, typer.Option(help="SQLite file of the vector store.")]
UserOption = Annotated[str | None, typer.Option(help="Customer id, such as CUST001.")]
CollectionOption = Annotated[str | None, typer.Option(help="Name of a shared collection, such as intents.")]
BaseModelOption = Annotated[str, typer.Option(help="Embedding model: minilm, a Hugging Face id or a folder.")]


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

    _check_target(user, collection)
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

    _check_target(user, collection)
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


def _check_target(user: str | None, collection: str | None) -> None:
    """Raises `UsageError` unless one is given. Called first, because loading the model takes seconds."""
    if (user is None) == (collection is None):
        raise UsageError(
            f"Expected either a customer or a shared collection, got {'neither' if user is None else 'both'}. Pass "
            "--user CUST001 or --collection intents."
        )


def _read(source: str) -> tuple[list[str], list[str]]:
    """Return texts and their intents; the intents are empty if the source is a text file."""
    from bankllm import datasets
    from bankllm.vectors.namespaces import MAX_TEXT_CHARACTERS

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
    try:
        # Unlike `splitlines`, which also ends a line at a form feed, U+0085 or U+2028.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text. Expected a UTF-8 file with one text per line; convert the file first."
        ) from error
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_TEXT_CHARACTERS:
            raise DataError(
                f"{path}, line {number} has {len(line)} characters: expected at most {MAX_TEXT_CHARACTERS}. Split the "
                "line."
            )
    texts = [line for line in lines if not is_blank(line)]
    return texts, [""] * len(texts)


memory = typer.Typer(
    no_args_is_help=True, help="Maintain a store's file: back up, compact, re-embed, mask, delete, expire."
)


@memory.command()
def backup(
    target: Annotated[Path, typer.Argument(help="Path of the copy; must not exist.")],
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Copy a store's file to a new file. Other processes can read the store during the copy; writers wait."""
    from bankllm.vectors.sqlite.maintenance import back_up

    back_up(store, target)
    typer.echo(f"{store} copied to {target} ({target.stat().st_size / 2**20:.1f} MiB), integrity check passed")


@memory.command()
def compact(store: StoreOption = Path("bankllm-memory.sqlite")) -> None:
    """Rewrite the file without the bytes of deleted messages. Other processes wait until it is done."""
    from bankllm.vectors.sqlite.file import open_existing
    from bankllm.vectors.sqlite.maintenance import compact as compact_file

    with closing(open_existing(store)) as db:
        done = compact_file(db, store)
    typer.echo(f"{store} was compacted" if done else f"{store} contains no deleted messages; nothing to compact")


@memory.command()
def reindex(store: StoreOption = Path("bankllm-memory.sqlite"), base_model: BaseModelOption = "minilm") -> None:
    """Re-embed all texts with another model. Other processes can use the file. If killed, run again to resume."""
    from bankllm.vectors.embedder import Embedder
    from bankllm.vectors.sqlite.reindex import reindex as reindex_file

    embedder = Embedder(base_model, settings=get_settings(), cache_bytes=0)
    count = reindex_file(store, embedder.encode, embedder.dim, embedder.model_id)
    typer.echo(
        f"{count:,} texts re-embedded with {embedder.model_id}"
        if count
        else f"nothing to do: {store} holds no texts, or its vectors are already of this model"
    )


@memory.command("mask")
def mask_memory(store: StoreOption = Path("bankllm-memory.sqlite"), base_model: BaseModelOption = "minilm") -> None:
    """Mask account numbers in stored texts. Other processes can use the file. If killed, run again."""
    from bankllm.vectors.embedder import Embedder
    from bankllm.vectors.sqlite.masking import mask_rows

    embedder = Embedder(base_model, settings=get_settings(), cache_bytes=0)
    checked, masked = mask_rows(store, embedder.encode, embedder.dim, embedder.model_id)
    typer.echo(f"{checked:,} rows checked, {masked:,} masked")


@memory.command()
def forget(
    user: UserOption = None,
    collection: CollectionOption = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id of a text. Repeat the option for several.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All texts of the customer or collection.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the receipt to this file, not to stdout.")] = None,
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Delete texts and give the receipt, as JSON: what was deleted, and where copies may remain until when."""
    namespace = _namespace(user, collection)
    if everything == bool(ids):
        raise UsageError("Expected what to delete: either --all, or an --id for each text.")
    if output is not None:
        check_writable(output)
    with closing(_open(store)) as opened:
        given = opened.delete(namespace, ids or None, asked_by="cli")
    text = json.dumps(asdict(given), indent=2)
    if output is None:
        typer.echo(text)
        return
    with atomic_writer(output) as file:
        file.write(text.encode())
    typer.echo(f"{given.deleted:,} texts deleted; receipt {given.chain.number} is in {output}")


@memory.command()
def receipt(
    file: Annotated[Path, typer.Argument(help="JSON file with the receipt.")],
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Check a receipt: it is unchanged and in the unbroken chain of the file, and its texts are still deleted."""
    from bankllm.vectors.sqlite.deletion import check_receipt
    from bankllm.vectors.sqlite.file import open_existing

    text = file.read_bytes().decode(errors="replace")
    with closing(open_existing(store)) as db:
        found, chained, waiting, restored = check_receipt(db, store, text)
    typer.echo(
        f"receipt {found['chain']['number']} is unchanged and in the chain of {chained} receipts of {store}: "
        f"{found['deleted']:,} texts of {found['namespace']} deleted at {found['committed_at']}"
    )
    for place in found["places"]:
        typer.echo(f"{place['name']:<16}  {place['state']:<13}  {place['until'] or place['detail']}")
    if found["outbox"]:
        typer.echo(f"Pinecone has accepted {len(found['outbox']) - waiting} of {len(found['outbox'])} outbox entries")
    if restored:
        typer.echo(f"{restored:,} of these texts are in the file again: delete them once more", err=True)
        raise typer.Exit(1)


@memory.command()
def retention(
    user: UserOption = None,
    collection: CollectionOption = None,
    ttl: Annotated[
        str | None, typer.Option(help="Keep texts 30d, 12h, 90m, 45s or never delete them; default: of all customers.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Delete the expired texts from the file now.")] = False,
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Show how many texts expire when, set how long texts are kept, and delete the expired ones."""
    from bankllm.vectors.sqlite.file import open_existing
    from bankllm.vectors.sqlite.retention import lifetimes, overview

    namespace = _namespace(user, collection) if user or collection else None
    if ttl is not None:
        lifetime = _seconds(ttl)
        with closing(_open(store)) as opened:
            opened.retain(namespace, lifetime)
    with closing(open_existing(store)) as db:
        due = overview(db, store, namespace)
        kept = lifetimes(db, store)
    for name, seconds in kept:
        typer.echo(f"{name or 'customers'}: kept {'for ever' if seconds is None else f'{seconds:,.0f} s'}")
    for when, count, first in due:
        typer.echo(f"{count:>9,}  {when:<10}  {first}")
    if apply:
        with closing(_open(store)) as opened:
            opened.sweep()
        typer.echo(f"{sum(count for when, count, _ in due if when == 'expired'):,} expired texts deleted")


def _namespace(user: str | None, collection: str | None) -> str:
    """Raises `UsageError` unless one valid name is given."""
    from bankllm.vectors.namespaces import check_name
    from bankllm.vectors.rows import COLLECTION

    _check_target(user, collection)
    what, name = ("user_id", user or "") if collection is None else ("collection name", collection)
    check_name(what, name)
    return name if collection is None else COLLECTION + name


def _open(path: Path) -> "SQLiteStore":
    """Open an existing store without its embedder, which only texts to embed need."""
    from bankllm.vectors.sqlite.file import open_existing, read_meta
    from bankllm.vectors.sqlite.store import SQLiteStore

    with closing(open_existing(path)) as db:
        meta = read_meta(db)
    return SQLiteStore(path, int(meta["dim"]), meta["embedder"])


def _seconds(ttl: str) -> float:
    if ttl == "never":
        return math.inf
    found = re.fullmatch(r"([0-9]{1,12})([dhms])", ttl)
    if found is None:
        raise UsageError(f"--ttl is {ttl!r}: expected a time such as 30d, 12h, 90m or 45s, or never.")
    return int(found[1]) * {"d": 86_400, "h": 3600, "m": 60, "s": 1}[found[2]]
