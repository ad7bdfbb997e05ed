# mypy: ignore-errors
"""A cron-like loop over sqlite3 connections, then a recycler thread; limits of time and of use."""

import sqlite3
import time

from queuepool import Pool, ResourceManager


class Connection(ResourceManager):
    made = 0

    def __init__(self, name, database):
        super().__init__(name)
        self.database = database

    def open(self):
        super().open()
        Connection.made += 1
        self.resource = sqlite3.connect(self.database, check_same_thread=False)

    def close(self):
        super().close()
        self.resource.close()
        self.resource = None


def until(condition):
    deadline = time.time() + 10
    while not condition():
        if time.time() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.01)


def use(pool):
    with pool.take() as c:
        (x,) = c.resource.execute("select 6 * 7").fetchone()
        return x


pool = Pool("db", 3, 0.2, 60, maxUsageCount=1e6, closeOnException=1)
managers = [Connection(f"db-{i}", ":memory:") for i in range(pool.capacity)]
for m in managers:
    pool.put(m)
print(use(pool), use(pool), "made", Connection.made, "open", sum(m._isOpen for m in managers))


def swept():
    pool.recycle()
    return not any(m._isOpen for m in managers)


until(swept)
print("the loop closed what was idle")

print(use(pool), "made", Connection.made)
pool.startRecycler(0.05)
pool.startRecycler(0.05)
pool.startRecycler(interval=0.05)
until(lambda: not any(m._isOpen for m in managers))
print("the thread closed what was idle")

aging = Pool(name="aging", capacity=1, maxIdleTime=None, maxOpenTime=0.05, maxUsageCount=None)
aging.put(Connection("aging", ":memory:"))
made = Connection.made
until(lambda: use(aging) == 42 and Connection.made > made + 2)
print("what is old is replaced")

worn = Pool("worn", 1, maxIdleTime=float("inf"), maxOpenTime=None, maxUsageCount=2)
worn.put(Connection("worn", ":memory:"))
made = Connection.made
print([use(worn) for _ in range(6)], "made", Connection.made - made)

print(str(pool), pool.name, pool.capacity, bool(pool.closeOnException), pool._maxIdleTime, pool._maxOpenTime)
pool.closeOnException = 0
print(bool(pool.closeOnException))
try:
    with pool.take() as c:
        kept = c.resource
        raise ValueError
except ValueError:
    pass
with pool.take() as c:
    print(c.resource is kept)

# 1.3.2 prints:
# 42 42 made 1 open 1
# the loop closed what was idle
# 42 made 2
# the thread closed what was idle
# what is old is replaced
# [42, 42, 42, 42, 42, 42] made 3
# db db 3 True 0.2 60
# False
# True
