"""The application: the command line, finetuning runs, data sets, and reports.

It uses the library's public API and `fastprune.files`. No other room imports it.
"""
