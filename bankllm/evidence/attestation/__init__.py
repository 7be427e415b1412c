"""Sign statements about a run, and check them: `bankllm attest` and `bankllm verify --attestations`.

`signing` signs with a local key, `keyless` with an identity through Sigstore, and `attest` writes and checks the files
in the folder `attestations/` of a run.
"""
