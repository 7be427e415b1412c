"""Small helpers that know nothing about banking: atomic files, child processes, a circuit breaker."""
