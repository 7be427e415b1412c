"""Plots and experiments for the notebooks. No other folder of the package imports this one.

In: rows and scrapes that a notebook measured. Out: matplotlib figures (`plots`, `load_plots`, `vector_plots`,
`metrics_plots`) and rows of experiments with the vector store (`vector_*`), Prometheus (`prometheus`, `promql`) and the
stages of a chat (`stage_times`).
"""
