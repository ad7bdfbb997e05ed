# mypy: ignore-errors
"""What 1.3.2 got wrong and a program survives now: each line is a way in which its pool lost a slot, or worse."""

import queuepool


class Flaky(queuepool.ResourceManager):
    trouble = None  # the step that fails now

    def step(self, name):
        if Flaky.trouble == name:
            raise OSError(name + " failed")

    def open(self):
        super().open()  # first, as many did
        self.step("open")
        self.resource = [self.name]

    def close(self):
        self.step("close")
        self.resource = None
        super().close()

    def takeRepair(self):
        self.step("takeRepair")

    def putRepair(self):
        self.step("putRepair")


pool = queuepool.Pool("flaky", capacity=2)
for i in range(pool.capacity):
    pool.put(Flaky("flaky-" + str(i)))


def use():
    with pool.take() as m:
        return m.resource[0]


for step in "open", "putRepair", "close", "takeRepair":
    for _ in range(3):
        Flaky.trouble = step
        try:
            if step == "close":
                with pool.take():
                    raise KeyError("the user's own")
            use()
        except (OSError, KeyError) as e:
            print(step, "->", type(e).__name__, e)
        Flaky.trouble = None
        pool.recycle()
    a, b = pool.take(), pool.take()
    print(step, "-> both slots are there:", sorted([a.name, b.name]), a.resource is not None, b.resource is not None)
    pool.put(a)
    pool.put(b)

try:
    with pool.take() as m:
        m.close()
        raise KeyError("after close")
except KeyError as e:
    print("the user's own error is seen:", e)

m = pool.take()
pool.put(m)
try:
    pool.put(m)
except ValueError as e:
    print("a second put:", type(e).__name__)

# 1.3.2 hangs; this prints:
# open -> OSError open failed
# open -> OSError open failed
# open -> OSError open failed
# open -> both slots are there: ['flaky-0', 'flaky-1'] True True
# putRepair -> both slots are there: ['flaky-0', 'flaky-1'] True True
# close -> KeyError "the user's own"
# close -> KeyError "the user's own"
# close -> KeyError "the user's own"
# close -> both slots are there: ['flaky-0', 'flaky-1'] True True
# takeRepair -> OSError takeRepair failed
# takeRepair -> OSError takeRepair failed
# takeRepair -> OSError takeRepair failed
# takeRepair -> both slots are there: ['flaky-0', 'flaky-1'] True True
# the user's own error is seen: 'after close'
# a second put: WrongSlot
