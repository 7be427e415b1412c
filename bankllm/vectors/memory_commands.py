"""The commands `bankllm memory`: maintain a store's file, delete texts with a receipt, and let texts expire."""

import json
import math
import re
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bankllm.errors import UsageError
from bankllm.settings import get_settings
from bankllm.util.atomic_files import atomic_writer, check_writable
from bankllm.vectors.commands import CollectionOption, StoreOption, UserOption, check_target

if TYPE_CHECKING:
    from bankllm.vectors.sqlite.store import SQLiteStore

BaseModelOption = Annotated[str, typer.Option(help="Embedding model: minilm, a Hugging Face id or a folder.")]

memory = typer.Typer(no_args_is_help=True, help="Maintain a store's file: back up, compact, re-embed, delete, expire.")


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
    from bankllm.vectors.sqlite.maintenance import compact as compact_file

    done = compact_file(store)
    typer.echo(f"{store} was compacted" if done else f"{store} contains no deleted messages; nothing to compact")


@memory.command()
def reindex(store: StoreOption = Path("bankllm-memory.sqlite"), base_model: BaseModelOption = "minilm") -> None:
    """Re-embed all texts with another model. Other processes can use the file."""
    from bankllm.vectors.embedder import Embedder
    from bankllm.vectors.sqlite.maintenance import reindex as reindex_file

    embedder = Embedder(base_model, settings=get_settings(), cache_bytes=0)
    count = reindex_file(store, embedder.encode, embedder.dim, embedder.model_id)
    typer.echo(
        f"{count:,} texts re-embedded with {embedder.model_id}"
        if count
        else f"nothing to do: {store} holds no texts, or its vectors are already of this model"
    )


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

    text = file.read_bytes().decode(errors="replace")
    found, chained, waiting, restored = check_receipt(store, text)
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
    from bankllm.vectors.sqlite.retention import lifetimes, overview

    namespace = _namespace(user, collection) if user or collection else None
    if ttl is not None:
        lifetime = _seconds(ttl)
        with closing(_open(store)) as opened:
            opened.retain(namespace, lifetime)
    due = overview(store, namespace)
    for name, seconds in lifetimes(store):
        typer.echo(f"{name or 'customers'}: kept {'for ever' if seconds is None else f'{seconds:,.0f} s'}")
    for when, count, first in due:
        typer.echo(f"{count:>9,}  {when:<10}  {first}")
    if apply:
        with closing(_open(store)) as opened:
            opened.sweep()
        typer.echo(f"{sum(count for when, count, _ in due if when == 'expired'):,} expired texts deleted")


def _namespace(user: str | None, collection: str | None) -> str:
    """Raises `UsageError` unless one valid name is given."""
    from bankllm.vectors.rows import COLLECTION, check_name

    check_target(user, collection)
    what, name = ("user_id", user or "") if collection is None else ("collection name", collection)
    check_name(what, name)
    return name if collection is None else COLLECTION + name


def _open(path: Path) -> "SQLiteStore":
    """Open an existing store without its embedder, which only texts to embed need."""
    from bankllm.vectors.sqlite.file import existing, read_meta
    from bankllm.vectors.sqlite.store import SQLiteStore

    with existing(path) as db:
        meta = read_meta(db)
    return SQLiteStore(path, int(meta["dim"]), meta["embedder"])


def _seconds(ttl: str) -> float:
    if ttl == "never":
        return math.inf
    found = re.fullmatch(r"([0-9]{1,12})([dhms])", ttl)
    if found is None:
        raise UsageError(f"--ttl is {ttl!r}: expected a time such as 30d, 12h, 90m or 45s, or never.")
    return int(found[1]) * {"d": 86_400, "h": 3600, "m": 60, "s": 1}[found[2]]
