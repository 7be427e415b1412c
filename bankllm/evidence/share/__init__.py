"""Share a run: copy it for a git repository (`publish`), describe it as an RO-Crate (`ro_crate`), log it to MLflow.

The last two need the extra `bankllm[share]`.
"""
