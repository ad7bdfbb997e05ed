# mypy: ignore-errors
"""Mail by several threads over few connections: python mailer.py HOST PORT USER PASSWORD"""

import multiprocessing.pool as mpp
import sys

import queuepool.pool as qp
import queuepool.smtpcm as smtpcm

host, port, user, password = sys.argv[1:]

mailpool = qp.Pool(name="mail", capacity=2, maxIdleTime=30)
for i in range(mailpool.capacity):
    mailpool.put(smtpcm.ConnectionManager("mail-" + str(i), host, int(port), user, password))
mailpool.startRecycler()

MESSAGE = "Subject: number {}\r\n\r\nHello {}"


def send(number):
    with mailpool.take() as m:
        m.sendmail("pool@example.org", ["reader@example.org"], MESSAGE.format(number, "you"))
    return number


workers = mpp.ThreadPool(5)
print(sum(workers.map(send, range(20))))
workers.close()
workers.join()

m = mailpool.take()
try:
    print(m.name in ("mail-0", "mail-1"), m.host == host, m.port, m.user, m.resource.noop()[0])
except Exception:
    m.close()
    raise
finally:
    mailpool.put(m)

m = mailpool.take()
m.close()
mailpool.put(m)
print(send(20))

for _ in range(mailpool.capacity):
    m = mailpool.take()
    m.close()

# 1.3.2 prints:
# 190
# True True PORT postman 250
# 20
