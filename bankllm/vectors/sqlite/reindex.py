"""Re-embed all texts of a store's file with another embedder: `bankllm memory reindex`.

Other processes can use the file while the texts are embedded. One transaction then replaces all vectors; from then on,
stores with the old embedder raise `StoreError`. A call that fails or is killed changes nothing.
"""

from pathlib import Path

from tqdm.auto import tqdm

from bankllm.util.sqlite import transaction
from bankllm.vectors.embedder import Encode
from bankllm.vectors.passages import embed_texts
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.file import FLOAT32, existing, read_meta

BATCH_ROWS = 256
"""Texts per call of the embedder."""


def reindex(path: Path, embed: Encode, dim: int, embedder_id: str) -> int:
    """Re-embed all texts of the file and return their number; 0 if it already has this embedder.

    Rows that are written, replaced or deleted during the call are included.
    """
    wanted = {"dim": str(dim), "embedder": embedder_id}
    embedded: dict[str, bytes] = {}
    with existing(path) as db:
        while True:
            with transaction(db):
                if read_meta(db) == wanted:
                    return 0
                rows = db.execute("SELECT seq, text FROM rows").fetchall()
                new = list(dict.fromkeys(text for _, text in rows if text not in embedded))
                if not new:
                    db.executemany("UPDATE rows SET vector = ? WHERE seq = ?", [(embedded[t], seq) for seq, t in rows])
                    db.executemany("UPDATE meta SET value = ? WHERE key = ?", [(v, k) for k, v in wanted.items()])
                    return len(rows)
            with tqdm(total=len(new), desc="embedding", unit="text", disable=None) as bar:
                for start in range(0, len(new), BATCH_ROWS):
                    batch = new[start : start + BATCH_ROWS]
                    vectors = unit_vectors(embed_texts(embed, batch), dim).astype(FLOAT32)
                    embedded |= {text: vector.tobytes() for text, vector in zip(batch, vectors, strict=True)}
                    bar.update(len(batch))
