"""Share a run: `publish` copies it for a git repository; with the extra `bankllm[share]`, RO-Crate and MLflow."""
