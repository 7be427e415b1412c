"""Lab: plots and experiments that only the notebooks call. No other folder of the package imports it.

In: rows and scrapes that a notebook measured. Out: matplotlib figures (`plots`, `load_plots`, `vector_plots`,
`metrics_plots`) and tables of experiments with the vector store, Prometheus and the stages of a chat.
"""
