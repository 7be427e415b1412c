"""What a message asks of the figures, rows and names in earlier replies."""
