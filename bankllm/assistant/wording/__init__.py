"""Responders: send the text of the facts, or let a language model word them.

`responder` has the interface and the registry, `responders/` the responders. `generating` is the responder of every
language model: it builds the prompt (`prompts`), checks that the text says what the facts say, and all of it
(`grounding`, `assertions`), and otherwise sends the text of the facts.
"""
