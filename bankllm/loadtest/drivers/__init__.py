"""Load drivers by name (`load.LOAD_DRIVERS`): closed loops are ab, Locust, closed-loop and sequential."""
