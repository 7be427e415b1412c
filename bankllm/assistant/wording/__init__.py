"""Responders: facts in, the words of a reply out.

`template` fills fixed sentences. `llm` lets a language model word the facts (`llm_clients`, `prompts`) and falls back
to the template when the model fails or states a number that is not among the facts (`grounding`, `numbers_in_text`).
"""
