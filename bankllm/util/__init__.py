"""Helpers without any knowledge of models or services: atomic files, child processes, hash chains, redaction."""
