"""Messages that get a fixed reply: from customers in distress, in another language than English, and complaints.

In: a message and its embedding. Out: a reply that a person wrote (`data/care/`), or None. `replies` answers messages
about suicide, abuse, a scam, a death or money trouble, which `detection` finds; `languages` answers other languages;
`complaints` answers complaints.
"""
