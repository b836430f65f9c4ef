"""Golden records: what every method did in every loop when the records in ``data`` were written.

They are the safety net for changes that must not change a run.  A test here fails if a run now reads another example,
keeps another subset, takes another number of steps, or ends with other weights.  It also fails if a state file that
was written then cannot be read now, or leads to another end.

``PYTHONPATH=.:tests python -m golden.record`` writes the records and the state files again, see `golden.record`.  Do
that only for a change that is meant to change runs.
"""
