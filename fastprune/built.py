"""Says in one sentence what to do where the C++ core is missing, as in a fresh source tree.  Import it first."""

try:
    import fastprune._core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fastprune._core":
        raise
    raise ImportError(
        "fastprune's C++ core is not built for this Python: run `pip install .` in the source tree, or "
        "`python setup.py build_ext --inplace` to use it where it lies",
        name="fastprune._core",
    ) from None
