"""Random programs of calls against one description of what a pool owes, and random loads whose leases are recorded."""
