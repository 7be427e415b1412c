"""Write small PDF files."""

from pathlib import Path

from pypdf import PdfWriter


def write_pdf(path: Path, pages: list[str], title: str = "", password: str = "") -> Path:
    """Write a PDF with one line of Latin text per page; an empty text is a page without any."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    page = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 500 500]/Resources<</Font<</F1 3 0 R>>>>"
    for number, text in enumerate(pages):
        objects.append(f"{page}/Contents {5 + 2 * number} 0 R>>")
        shown = f"BT /F1 12 Tf 10 400 Td ({text}) Tj ET" if text else ""
        objects.append(f"<</Length {len(shown)}>>stream\n{shown}\nendstream")
    body, starts = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    size = len(objects) + 1
    trailer = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF\n"
    path.write_bytes(f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode("latin-1"))
    if title or password:
        writer = PdfWriter(clone_from=path)
        writer.add_metadata({"/Title": title})
        if password:
            writer.encrypt(password, algorithm="AES-256")
        writer.write(path)
    return path
