"""Turn the records of a run into pages, and check the numbers in other documents against the records.

- `render`: write RESULTS.md, RESULTS.html, RESUME.md and CITATION.cff of a run from the templates. `summary` selects
  and orders the records, and `resume` fills the résumé sentences.
- `claims`: check or fill in the numbers of a Markdown file that are bound to records.
- `roadmap`: compare the records with the claims that this project was planned with.
"""
