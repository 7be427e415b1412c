"""Read a message in its conversation: step by step, until one step finds what to answer."""
