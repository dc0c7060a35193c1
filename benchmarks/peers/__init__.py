"""The benchmark against peers, in parts; `run.py` is its command line."""
