"""Plots and experiments for the notebooks. No other folder of the package imports this one.

In: rows and scrapes that a notebook measured. Out: matplotlib figures (`plots`, `load_plots`, `vector_plots`) and rows
of experiments with the vector store (`vector_*`) and with Prometheus (`prometheus`, `promql`).
"""
