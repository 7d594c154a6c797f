"""Search engines side by side: same vectors, same probes, one run.

    cd benchmarks && python -m search --rows 100000 --peers all

What is counted first is not recall but lost mates: probes of whom exact search ranks the
true person first, and whom the engine does not return at all. See `search.workload`.
"""
