"""What an author of a connector or a sensor needs to test it."""
