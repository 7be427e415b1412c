"""Share a run: a copy for git (`publish`), an RO-Crate description, and MLflow."""
