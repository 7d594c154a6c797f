"""Files in and out: what an import reads, how it runs, and what an export writes."""
