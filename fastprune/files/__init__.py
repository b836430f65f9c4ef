"""Files on disk: writes that are never half done, locks, Parquet tables, and score files."""
