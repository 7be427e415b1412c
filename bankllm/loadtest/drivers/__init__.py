"""Load drivers by name (`load.LOAD_DRIVERS`): ab and Locust are closed loops, `open_loop` is the open loop."""
