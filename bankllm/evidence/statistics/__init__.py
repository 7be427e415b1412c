"""Statistics: pure functions from rows to an `Estimate`. Standard library only; `registry` lists all of them."""
