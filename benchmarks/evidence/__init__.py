"""The evidence runner: many small training runs over one plan, one line of results each.

`plan.toml` says what to run, `python -m benchmarks.evidence run` runs it, and `table` shows what came out.
`benchmarks/README.md` holds the protocol.
"""
