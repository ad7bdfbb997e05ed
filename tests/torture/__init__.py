"""Exceptions that strike threads at random instants, thousands of times, and the instants at which one once did harm."""
