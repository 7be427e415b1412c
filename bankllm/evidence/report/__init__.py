"""Turn the records of a run into pages.

- `render`: write RESULTS.md, RESULTS.html, RESUME.md and CITATION.cff of a run from the templates. `summary` selects
  and orders the records, and `resume` fills the résumé sentences.
- `roadmap`: compare the records with the claims that this project was planned with.
"""
