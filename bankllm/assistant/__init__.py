"""Assistant: a customer's message in, an answer that rests on named facts out. No HTTP.

In: a classifier (`runtime` loads it), the customer's memory (`bankllm.vectors`), the bank's data (`bank`). Out: a
`ChatReply`. `engine` does the work: the classifier gives the intent, `understand` reads the message as calls of tools,
the tools look up facts or propose an action (`actions`), a responder (`wording`) words the reply, and the turn is
stored. `batcher` shares encoder passes between requests.
"""
