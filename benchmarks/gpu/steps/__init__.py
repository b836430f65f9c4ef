"""The steps of a call. Each module has `run(context)`, and imports no other step."""
