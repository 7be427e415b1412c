"""The assistant's tools; `bankllm.assistant.facts.TOOLS` finds these modules."""
