# mypy: ignore-errors
"""More workers of multiprocessing's ThreadPool than resources, which some of the workers spoil."""

import multiprocessing.pool as mpp
import queue
import threading

import queuepool
import queuepool.pool as qp

assert queuepool.name == "queuepool"

lock = threading.Lock()
opened = []
in_use = set()


class Line:
    def __init__(self, number):
        self.number = number
        self.closed = False

    def close(self):
        self.closed = True

    def say(self, word):
        if self.closed:
            raise ValueError("the line is closed")
        return word.upper()


class LineManager(qp.ResourceManager):
    def open(self):
        with lock:
            self.resource = Line(len(opened))
            opened.append(self.resource)
        super().open()

    def close(self):
        if not self.resource.closed:
            self.resource.close()
        self.resource = None
        super().close()

    def putRepair(self):
        if self._isOpen and self.resource.closed:
            self.close()
        super().putRepair()


class CountingPool(qp.Pool):
    """Knows how many are out, as people did before the pool told them."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.out = 0

    def take(self):
        manager = super().take()
        with lock:
            self.out += 1
        return manager

    def put(self, manager):
        super().put(manager)
        with lock:
            self.out -= 1


def work(pool, number):
    with pool.take() as manager:
        line = manager.resource
        with lock:
            assert line not in in_use
            in_use.add(line)
        said = line.say(f"word {number}")
        with lock:
            in_use.discard(line)
    if number % 10 == 0:
        manager = pool.take()
        manager.resource.close()  # behind the manager's back
        pool.put(manager)
    elif number % 10 == 5:
        try:
            with pool.take():
                raise RuntimeError("a worker's own trouble")
        except RuntimeError:
            pass
    return said


pool = CountingPool(name="lines", capacity=4, maxIdleTime=None, maxOpenTime=None, maxUsageCount=None)
for i in range(pool.capacity):
    pool.put(LineManager(name="line-" + str(i)))
pool.out = 0
with mpp.ThreadPool(16) as workers:
    said = workers.starmap(work, [(pool, number) for number in range(500)])
print(len(said), said[0], said[-1])
print("out:", pool.out)
print("open:", sum(not line.closed for line in opened) <= 4, "spoilt:", sum(line.closed for line in opened))

taken = queue.Queue()
for _ in range(pool.capacity):
    taken.put(pool.take())
threading.Timer(0.05, lambda: pool.put(taken.get())).start()
late = pool.take()  # waits for the timer
print("capacity after all:", taken.qsize() + 1, late.resource.say("done"))

# 1.3.2 prints:
# 500 WORD 0 WORD 499
# out: 0
# open: True spoilt: 100
# capacity after all: 4 DONE
