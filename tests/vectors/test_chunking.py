"""Documents become chunks that fit the encoder, with title, source and place; bad files are explained."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bankllm import datasets
from bankllm.errors import DataError
from bankllm.model import base_models
from bankllm.model.torch_classifier import load_tokenizer
from bankllm.vectors.chunking import CHUNK_TOKENS, MAX_BYTES, MAX_PAGES, estimated_tokens, read_document, read_documents
from tests.support.pdf_file import write_pdf

GUIDE = """---
layout: page
---
# Card guide

Cards arrive within *five* working days.
See [the fees](fees.md).

## Fees

| place | fee |
|---|---|
| abroad | £3.50 |

### Refunds

- Fees of errors are refunded.
- It takes a day.

```
# no heading
```
"""


def test_markdown_chunks_carry_title_and_headings(tmp_path: Path) -> None:
    (tmp_path / "cards.md").write_text(GUIDE, encoding="utf-8")
    start, fees, refunds = read_document(tmp_path / "cards.md")
    assert start.text == "Card guide\nCards arrive within five working days. See the fees."
    assert start.metadata == {"source": str(tmp_path / "cards.md"), "title": "Card guide", "chunk": 1}
    assert fees.text == "Card guide\nFees\nplace fee\n\nabroad £3.50"
    assert fees.metadata["heading"] == "Fees"
    assert refunds.text == "Card guide\nFees > Refunds\nFees of errors are refunded.\n\nIt takes a day.\n\n# no heading"
    assert (refunds.metadata["heading"], refunds.metadata["chunk"]) == ("Fees > Refunds", 3)


def test_html_keeps_only_the_visible_text(tmp_path: Path) -> None:
    page = tmp_path / "fees.html"
    page.write_bytes(
        '<html><head><meta charset="iso-8859-1"><title>Gebühren</title><style>p {}</style></head><body><nav>Home</nav>'
        "<!-- draft --><script>track()</script><h1>Gebühren &amp; Preise</h1><p>Ein<b>e</b> Karte<br>kostet 5 £.</p>"
        "<table><tr><td>ab</td><td>cd</td></tr></table><div>loose <span>text</span></div></body></html>".encode(
            "iso-8859-1"
        )
    )
    (chunk,) = read_document(page)
    assert chunk.text == "Gebühren\nGebühren & Preise\nEine Karte kostet 5 £.\n\nab cd\n\nloose text"


def test_pdf_chunks_name_the_page(tmp_path: Path) -> None:
    chunks = read_document(write_pdf(tmp_path / "terms.pdf", ["First page.", "", "Third page."], "Card terms"))
    assert [(chunk.text, chunk.metadata["page"]) for chunk in chunks] == [
        ("Card terms\nFirst page.", 1),
        ("Card terms\nThird page.", 3),
    ]


def test_plain_text_has_the_file_name_as_title(tmp_path: Path) -> None:
    (tmp_path / "opening hours.TXT").write_bytes("On weekdays\r\nfrom 9 to 5.\r\n\r\n\u200b\r\n\r\nÖ".encode("utf-16"))
    (chunk,) = read_document(tmp_path / "opening hours.TXT")
    assert chunk.text == "opening hours\nOn weekdays from 9 to 5.\n\nÖ"


def test_chunks_fit_the_encoder(tmp_path: Path) -> None:
    """Long paragraphs are split at the ends of sentences, else between words; nothing is lost."""
    texts = datasets.load("teller77").test.texts
    paragraphs = [". ".join(texts[start : start + 40]) + "." for start in range(0, 400, 40)]
    paragraphs += [
        "£1,234.56 GB29NWBK60161331926819 " * 40,
        "Überweisungsauftrag für Müller. " * 60,
        "你好吗" * 300,
    ]
    (tmp_path / "long.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    chunks = read_document(tmp_path / "long.txt")
    tokenizer = load_tokenizer(base_models.resolve())
    assert max(len(ids) for ids in tokenizer([chunk.text for chunk in chunks])["input_ids"]) <= 256
    found = "".join(chunk.text.removeprefix("long\n") for chunk in chunks)
    assert "".join(found.split()) == "".join("".join(paragraphs).split())
    sentences = [chunk.text.removeprefix("long\n").strip() for chunk in chunks[: len(chunks) // 3]]
    assert all(sentence[-1] in ".?!" for sentence in sentences[:-1])


@given(st.text(min_size=1, max_size=2000))
@example(f"# {'长' * 500}\n\n## {'题' * 500}\n\n{'text ' * 500}")
def test_chunks_of_any_text_are_numbered_and_fit(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    for path in (tmp_path_factory.getbasetemp() / name for name in ("any.txt", "any.md")):
        path.write_bytes(f"start\n\n{text}".encode(errors="replace"))
        try:
            chunks = read_document(path)
        except DataError:
            assert "\0" in text
            return
        assert all(estimated_tokens(chunk.text) <= CHUNK_TOKENS for chunk in chunks)
        assert [chunk.metadata["chunk"] for chunk in chunks] == [*range(1, len(chunks) + 1)]


def test_a_folder_is_read_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/two.md", "a/one.txt", ".git/three.md", "b/.four.md", "b/picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = read_documents(tmp_path)
    assert [chunk.metadata["title"] for chunk in found.chunks] == ["one", "two"]
    assert (found.read, found.others, found.faults) == (2, 1, {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", bytes(range(256)), r"is no UTF-8 text"),
        ("a.txt", b"text\0text", r"is no UTF-8 text"),
        ("a.txt", "Gebühren".encode("latin-1"), r"is no UTF-8 text\. Convert the file"),
        ("a.txt", b"", r"contains no text\. Expected at least one paragraph"),
        ("a.html", b"<html><title>Only a title</title><script>track()</script></html>", r"contains no text"),
        ("a.pdf", b"no PDF at all", r"a\.pdf is no PDF, or is damaged"),
        ("a.pdf", b"", r"a\.pdf is no PDF, or is damaged"),
    ],
)
def test_a_file_without_text_is_explained(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_document(tmp_path / name)


def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    for pages, password, message in (
        (["Secret."], "secret", r"a\.pdf is encrypted\. Save a copy without a password"),
        (["", ""], "", r"contains no text.*may be images"),
        ([""] * (MAX_PAGES + 1), "", r"has 2,001 pages: expected at most 2,000\. Split the file"),
    ):
        with pytest.raises(DataError, match=message):
            read_document(write_pdf(path, pages, password=password))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.pdf is no PDF, or is damaged|contains no text"):
        read_document(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"has 64 MiB: expected at most 64"):
        read_document(path)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_document(tmp_path)


def test_a_folder_without_documents_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "picture.png").touch()
    with pytest.raises(DataError, match=r"has no documents\. Expected files that end with \.htm, "):
        read_documents(tmp_path)
    with pytest.raises(DataError, match=r"none cannot be read \(No such file or directory\)"):
        read_documents(tmp_path / "none")


def test_an_encrypted_pdf_that_opens_without_a_password_is_read(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter(clone_from=write_pdf(tmp_path / "a.pdf", ["Printing is not allowed."]))
    writer.encrypt("", owner_password="owner", algorithm="AES-256")
    writer.write(tmp_path / "a.pdf")
    assert read_document(tmp_path / "a.pdf")[0].text == "a\nPrinting is not allowed."
