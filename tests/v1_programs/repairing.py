# mypy: ignore-errors
"""Calls of the hooks, in their order, as a program for queuepool 1.3.2 sees them."""

from queuepool import Pool, ResourceManager

calls = []


class Lamp(ResourceManager):
    def __init__(self, name, broken=False):
        super().__init__(name)
        self.opened = 0
        self.closed = 0
        self.state = "new"
        self.broken = broken
        self.tenant = "never set"

    def open(self):
        calls.append("open")
        if self.broken:
            raise OSError("no bulb")
        self.opened += 1
        self.state = "lit"
        self.resource = "light"
        super().open()

    def close(self):
        calls.append("close")
        self.closed += 1
        self.state = "dark"
        self.resource = None
        super().close()

    def takeRepair(self):
        calls.append("takeRepair")
        super().takeRepair()
        if self._isOpen and self.resource != "light":
            self.close()

    def putRepair(self):
        calls.append("putRepair")
        super().putRepair()
        self.tenant = None
        if self._isOpen and self.resource == "smoke":
            self.close()


def told(what):
    print(what.ljust(18), " ".join(calls))
    del calls[:]


pool = Pool("lamps", 1, maxUsageCount=3)
lamp = Lamp("lamp")
pool.put(lamp)
told("filled")
print(lamp.tenant, lamp._isOpen, lamp._lastOpened, lamp._usageCount)

with pool.take() as m:
    assert m is lamp
    print(str(m), m.resource, m._isOpen, m._usageCount, m._pool is pool)
    print(m._lastOpened.date() <= m._lastUsed.date())
told("first use")

with pool.take() as m:
    m.tenant = "me"
told("second use")
print(lamp.tenant, lamp._usageCount)

with pool.take():
    pass
told("third and last")

m = pool.take()
m.close()
pool.put(m)
told("closed by hand")

m = pool.take()
m.resource = "smoke"
pool.put(m)
told("closed by putRepair")

m = pool.take()
m.resource = "gas"
pool.put(m)
with pool.take():
    pass
told("closed by takeRepair")

try:
    with pool.take() as m:
        m.tenant = "me"
        raise KeyError("mine")
except KeyError as e:
    told(f"left by {e!r}")
print(lamp.tenant, lamp._isOpen, lamp.resource)

pool.closeOnException = False
try:
    with pool.take() as m:
        raise KeyError("mine")
except KeyError as e:
    told(f"kept after {e!r}")

m = pool.take()
m.close()
m.open()
print(m.resource, m._isOpen)
pool.put(m)
del calls[:]
print(lamp.opened - lamp.closed in (0, 1), lamp.state in ("lit", "dark"))

# 1.3.2 prints:
# filled             putRepair
# None False None None
# lamp light True 1 True
# True
# first use          takeRepair open putRepair
# second use         takeRepair putRepair
# None 2
# third and last     takeRepair close putRepair
# closed by hand     takeRepair open close putRepair
# closed by putRepair takeRepair open putRepair close
# closed by takeRepair takeRepair open putRepair takeRepair close open putRepair
# left by KeyError('mine') takeRepair close putRepair
# None False None
# kept after KeyError('mine') takeRepair open putRepair
# light True
# True True
