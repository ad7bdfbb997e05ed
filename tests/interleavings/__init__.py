"""Every interleaving of the core: an explorer of thread schedules, and what it proves.

The short form runs with the other tests. In full, every schedule within the bound::

    QUEUEPOOL_SCHEDULES=all pytest tests/interleavings
"""
