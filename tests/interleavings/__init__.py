"""Every interleaving of the core: an explorer of thread schedules, and what it proves."""
