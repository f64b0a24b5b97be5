"""What will be done: a Plan, or every reason why not. Pure."""
