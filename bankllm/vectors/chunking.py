"""Split documents (Markdown, text, HTML, PDF) into chunks for a collection, with their source and place as metadata.

A chunk holds whole paragraphs below one heading, or the sentences of a long paragraph, and starts with the document's
title and that heading, so that it can be found and understood alone. Chunks do not overlap: copies of sentences would
take places among the results.
"""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tqdm.auto import tqdm

from bankllm.errors import DataError, explained
from bankllm.util.text import is_blank
from bankllm.vectors.rows import MetadataValue

SUFFIXES = frozenset({".md", ".markdown", ".txt", ".html", ".htm", ".pdf"})
CHUNK_TOKENS = 240
"""Maximum size of a chunk as `estimated_tokens`. MiniLM reads 256 tokens; two of them mark start and end."""
MAX_BYTES, MAX_PAGES = 64 * 2**20, 2000
"""Limits of one file; reading a PDF page takes about 20 ms."""
TITLE_CHARACTERS = 80
"""Characters of title and of heading that each chunk repeats."""
_TOKEN = re.compile(r"[A-Z]?[a-z]{1,4}|[A-Z]{1,2}|[0-9]{1,2}|\S")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = (*_HEADINGS, "p", "li", "dt", "dd", "pre", "tr", "caption", "blockquote", "div", "section", "article", "body")


@dataclass(frozen=True)
class Chunk:
    text: str
    metadata: dict[str, MetadataValue]
    """`source` (path of the file), `title`, `chunk` (1, 2, … in the file), and `heading` and `page` if known."""


@dataclass(frozen=True)
class _Paragraph:
    text: str
    heading: str = ""
    page: int = 0


@dataclass(frozen=True)
class Documents:
    chunks: list[Chunk]
    faults: dict[str, str]
    """Path of each document that could not be read → what is wrong with it."""
    read: int
    others: int
    """Files of other types, which were left out."""


def read_documents(source: Path, progress: bool = False) -> Documents:
    """Read a document, or all documents in a folder and below; hidden files and folders are left out.

    Raises `DataError` if there are none, if all have faults, or if a folder cannot be read.
    """
    paths, others = _find(source)
    chunks, faults = list[Chunk](), dict[str, str]()
    for path in tqdm(paths, desc="read", unit="document", disable=not progress):
        try:
            chunks += read_document(path)
        except DataError as error:
            faults[str(path)] = str(error)
    if not chunks:
        raise DataError(" ".join(["No document could be read, nothing was changed.", *faults.values()]))
    return Documents(chunks, faults, len(paths) - len(faults), others)


def is_below(source: Path, name: object) -> bool:
    """Whether the file `name` is `source`, or is in that folder."""
    return isinstance(name, str) and source in (Path(name), *Path(name).parents)


def _find(source: Path) -> tuple[list[Path], int]:
    """Return the documents, sorted, and the number of other files; a file is itself a document."""
    if source.is_file():
        return [source], 0
    try:
        if not source.is_dir():
            raise FileNotFoundError(2, os.strerror(2), str(source))
        files = []
        for folder, folders, names in os.walk(source, onerror=_reraise):
            folders[:] = [name for name in folders if name[0] != "."]
            files += [Path(folder, name) for name in names if name[0] != "."]
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({os.strerror(error.errno or 0)}). Expected a document or a folder with "
            "documents. Check the path and its permissions."
        ) from error
    documents = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not documents:
        raise DataError(
            f"{source} has no documents. Expected files that end with {', '.join(sorted(SUFFIXES))} in it or in its "
            "folders. Nothing was changed."
        )
    return documents, len(files) - len(documents)


def read_document(path: Path) -> list[Chunk]:
    """Split a document into chunks. Raises `DataError` for a file that is damaged, encrypted, too large or no text."""
    with explained(DataError, f"{path} cannot be read", "Check its permissions.", OSError):
        if (size := path.stat().st_size) > MAX_BYTES:
            size_mib, limit_mib = size / 2**20, MAX_BYTES // 2**20
            raise DataError(f"{path} has {size_mib:.0f} MiB: expected at most {limit_mib}. Split the file.")
        content = path.read_bytes()
    from semantic_text_splitter import TextSplitter

    title, paragraphs = _read_pdf(path, content) if path.suffix.lower() == ".pdf" else _read_text(path, content)
    title = (title.strip() or path.stem)[:TITLE_CHARACTERS]
    chunks: list[Chunk] = []
    for (heading, page), group in groupby(paragraphs, key=lambda one: (one.heading, one.page)):
        place: dict[str, MetadataValue] = {"source": str(path), "title": title}
        place |= ({"heading": heading} if heading else {}) | ({"page": page} if page else {})
        start = title if heading in ("", title) else f"{title}\n{heading[:TITLE_CHARACTERS]}"
        splitter = TextSplitter.from_callback(estimated_tokens, CHUNK_TOKENS - estimated_tokens(start))
        for body in splitter.chunks("\n\n".join(one.text for one in group)):
            chunks.append(Chunk(f"{start}\n{body}", place | {"chunk": len(chunks) + 1}))
    if not chunks:
        hint = " Its pages may be images: recognise their text first (OCR)." if path.suffix.lower() == ".pdf" else ""
        raise DataError(f"{path} contains no text. Expected at least one paragraph.{hint}")
    return chunks


def estimated_tokens(text: str) -> int:
    """Return about the number of WordPiece tokens, without a tokenizer, so that all models get the same chunks.

    It is 1.15 times the number for English prose, and 0.95 times the number for account numbers.
    """
    return sum(1 for _ in _TOKEN.finditer(text))


def _read_text(path: Path, content: bytes) -> tuple[str, list[_Paragraph]]:
    kind = path.suffix.lower()
    if kind in (".html", ".htm"):
        return _read_html(content)
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        if "\0" in text:
            raise ValueError("NUL")
    except ValueError as error:
        raise DataError(f"{path} is no UTF-8 text. Convert the file to UTF-8, or remove it.") from error
    if kind == ".txt":
        return "", list(_paragraphs(text))
    from markdown_it import MarkdownIt

    text = re.sub(r"\A---\n.*?\n---\n", "", text.replace("\r\n", "\n"), flags=re.DOTALL)  # settings of a site generator
    return _read_html(MarkdownIt("commonmark").enable("table").render(text))


def _paragraphs(text: str, page: int = 0) -> Iterator[_Paragraph]:
    clean = text.replace("\0", "").encode(errors="replace").decode()  # a PDF may contain halves of surrogate pairs
    for part in re.split(r"\n\s*\n", re.sub(r"(?<=\w)-\n(?=[a-z])", "", clean)):
        if not is_blank(part):
            yield _Paragraph(" ".join(part.split()), page=page)


def _read_html(content: bytes | str) -> tuple[str, list[_Paragraph]]:
    """Return the title, which is the first heading of level 1 if there is no other, and the paragraphs."""
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString

    page = BeautifulSoup(content, "html.parser")
    title = page.title.extract().get_text(" ", strip=True) if page.title else ""
    for tag in page(["nav", "noscript", "script", "style", "template"]):
        tag.decompose()
    for tag in page("br"):
        tag.replace_with("\n")
    strings = (string for string in page.find_all(string=True) if type(string) is NavigableString)  # no comments
    headings: dict[str, str] = {}
    paragraphs = []
    for block, group in groupby(strings, key=lambda string: string.find_parent(_BLOCKS)):
        name = block.name if block else ""
        text = " ".join((" " if name == "tr" else "").join(group).replace("\0", "").split())
        if is_blank(text):
            continue
        if name in _HEADINGS:
            headings = {level: kept for level, kept in headings.items() if level < name} | {name: text}
            title = title or text
        else:
            paragraphs.append(_Paragraph(text, " > ".join(kept for kept in headings.values() if kept != title)))
    return title, paragraphs


def _read_pdf(path: Path, content: bytes) -> tuple[str, list[_Paragraph]]:
    from pypdf import PdfReader

    with explained(DataError, f"{path} is no PDF, or is damaged", "Export it again."):
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DataError(f"{path} is encrypted. Save a copy without a password.")
        if (pages := len(reader.pages)) > MAX_PAGES:
            raise DataError(f"{path} has {pages:,} pages: expected at most {MAX_PAGES:,}. Split the file.")
        texts = [page.extract_text() for page in reader.pages]
        title = str(reader.metadata.title or "") if reader.metadata else ""
    return title, [one for number, text in enumerate(texts, 1) for one in _paragraphs(text, number)]


def _reraise(error: OSError) -> None:
    raise error
