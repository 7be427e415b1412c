"""Report: records in, pages whose numbers are bound to them out (`render`); numbers in Markdown files (`claims`)."""
