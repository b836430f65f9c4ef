"""Importing this checks that the C++ core is built. It is not built in a fresh source tree.

If the core is missing, the error says how to build it.
"""

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
