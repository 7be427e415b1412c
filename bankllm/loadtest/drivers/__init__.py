"""Load drivers by name (`load.LOAD_DRIVERS`): closed loops are ab, Locust and sequential; the others are open."""
