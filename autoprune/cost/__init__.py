"""What a policy costs."""
