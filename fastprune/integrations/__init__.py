"""Thin adapters between `DynamicPruner` and training frameworks; each module imports its own framework."""
