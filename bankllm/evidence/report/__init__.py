"""Turn the records of a run into pages.

`render` writes the pages from the templates: `summary` selects the records, `resume` fills the résumé sentences.
`roadmap` compares the records with the claims that this project was planned with.
"""
