"""What a message means for the action that waits for a yes, and for the last one."""
