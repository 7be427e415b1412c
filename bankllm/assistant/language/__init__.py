"""The language model: its process, its tasks, and when its calls are taken."""
