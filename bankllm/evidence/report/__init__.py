"""Turn the records of a run into pages, and check the numbers in other documents against the records.

- `render`: write RESULTS.md, RESULTS.html, RESUME.md and the exports of a run. `summary` selects and orders the
  records, `resume` writes the résumé sentences, and `exports` the CSV, JSON, badge and citation files.
- `claims`: check or fill in the numbers of a Markdown file that are bound to records.
- `roadmap`: compare the records with the claims that this project was planned with.
"""
