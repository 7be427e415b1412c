"""Conversations with the real service; `benchmarks/conversation_bank.py` describes the files."""
