"""Serving: a customer's message in, an answer that rests on named facts out.

In: a trained `IntentClassifier`, a memory (`VectorService`), a ledger of accounts. Out: a `ChatReply`
(`engine`), worded by a responder from the ledger (`ledger`) and the knowledge articles (`knowledge`), and the HTTP
service around it (`app`, errors in `problems`). The responder is the template (`responder`) or a language model
(`generation`, `language_models`, `prompts`), whose every figure must be among the facts (`grounding`, `figures`).
"""
