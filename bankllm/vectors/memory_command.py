"""Commands that look after a memory file: `bankllm memory backup`, `reindex` and `compact`.

`bankllm.cli` adds `mask`, which needs the `serving` folder.
"""

from pathlib import Path
from typing import Annotated

import typer

from bankllm.settings import get_settings

memory = typer.Typer(no_args_is_help=True, help="Look after a memory file: copy it, embed it anew.")

StoreOption = Annotated[Path, typer.Option(help="SQLite file of the vector store.")]


@memory.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The copy; a new file.")],
    store: StoreOption = Path("bankllm-memory.sqlite"),
) -> None:
    """Copy the memory as it stands at one moment, while others use it. The copy is a store like any other."""
    from bankllm.vectors.sqlite.maintenance import copy_file

    copy_file(store, target)
    typer.echo(f"{store} copied to {target} ({target.stat().st_size / 2**20:.1f} MiB), checked")


@memory.command()
def compact(store: StoreOption = Path("bankllm-memory.sqlite")) -> None:
    """Write the file anew, so that no trace of removed messages is left in it; others wait meanwhile."""
    from contextlib import closing

    from bankllm.vectors.sqlite.connection import open_existing
    from bankllm.vectors.sqlite.maintenance import compact as write_anew

    with closing(open_existing(store)) as db:
        done = write_anew(db, store)
    typer.echo(f"{store} is compacted" if done else f"{store} holds no trace of removed messages")


@memory.command()
def reindex(
    store: StoreOption = Path("bankllm-memory.sqlite"),
    base_model: Annotated[
        str, typer.Option(help="The new embedder: minilm, a Hugging Face id or a folder.")
    ] = "minilm",
    precision: Annotated[
        str | None, typer.Option(help="float32, float16 or int8.", show_default="the file's own")
    ] = None,
) -> None:
    """Embed all texts anew with another embedder, while others use the file. Killed, it carries on when repeated."""
    from bankllm.vectors.embedder import Embedder
    from bankllm.vectors.sqlite.reindex import reindex as embed_anew
    from bankllm.vectors.storage_precision import precision_of

    chosen = precision_of(precision) if precision is not None else None
    embedder = Embedder(base_model, settings=get_settings(), cache_bytes=0)
    count = embed_anew(
        store,
        embedder.encode,
        embedder.dim,
        embedder.model_id,
        precision=chosen,
        progress=True,
    )
    typer.echo(f"{count:,} texts embedded anew with {embedder.model_id}" if count else f"{store} has these vectors")
