"""Helpers without any knowledge of models or services: atomic files, child processes, a circuit breaker, redaction."""
