"""queuepool beside the pools a user would pick instead, and beside the physical limit: ``python -m tests.bench``."""
