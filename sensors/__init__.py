"""What is waited for, and what is done when it comes."""
