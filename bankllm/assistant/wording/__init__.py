"""Responders: generate the text of a reply from facts.

`template` inserts the facts into fixed sentences. `llm` generates the text with a language model (`llm_clients`,
`prompts`). It falls back to the template if the model fails, or if the text states a number that is not among the
facts (`grounding`, `numbers_in_text`).
"""
