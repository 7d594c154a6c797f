"""The API, each method written once as a pure function that returns what to call.

The signature and docstring of every method of `Client` and `AsyncClient` are here.
"""
