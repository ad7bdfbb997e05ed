"""What every kind of pool owes, written once: each test is an async function that gets an `api` for one kind."""
