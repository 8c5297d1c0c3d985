"""What counts of a call, for exercises where more counts than the value that comes back."""
