"""Thin adapters between `DynamicPruner` and training frameworks.  Each module imports its own framework."""
