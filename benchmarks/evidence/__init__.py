"""The evidence runner: many small training runs from one plan, with one line of results each.

`plan.toml` says what to run. `python -m benchmarks.evidence run` runs it, and `table` shows the results.
`benchmarks/README.md` holds the protocol.
"""
