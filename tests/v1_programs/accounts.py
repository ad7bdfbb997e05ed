# mypy: ignore-errors
"""Transfers between accounts by a ThreadPool over PostgreSQL: python accounts.py DSN"""

import multiprocessing.pool as mpp
import random
import sys
import time

import psycopg2
from psycopg2 import errors, extensions

import queuepool.pool as qp
import queuepool.psycopg2cm as pgcm

ACCOUNTS = 4
TRANSFERS = 60

dbpool = qp.Pool(name="bank", capacity=3, maxIdleTime=60, maxOpenTime=600, maxUsageCount=20, closeOnException=True)
for i in range(dbpool.capacity):
    dbpool.put(
        pgcm.ConnectionManagerExtended(
            name="bank-" + str(i),
            isolation_level=extensions.ISOLATION_LEVEL_SERIALIZABLE,
            autocommit=False,
            dsn=sys.argv[1],
        )
    )
dbpool.startRecycler(5)

with dbpool.take() as cm:
    cm.qexec("create table accounts (id int primary key, owner text, balance int not null)")
    for i in range(ACCOUNTS):
        cm.qexec("insert into accounts values (%s, %s, 100)", (i, "owner " + str(i)))
    cm.resource.commit()

with dbpool.take() as cm:
    print(cm.query("select id, balance from accounts where id < %s order by id", (2,)))
    rows, description = cm.querys("select owner, balance from accounts order by id")
    print(rows[0], [d.name for d in description])
    print(cm.query1("select owner from accounts where id = %s", (3,)), cm.query1("select 1 from accounts"))
    print(cm.query1("select abs(" + cm.now_expr(60) + " - " + cm.now_expr() + ") as ms"))

# left in a transaction, and in a broken one
with dbpool.take() as cm:
    cm.qexec("update accounts set balance = 0")
cm = dbpool.take()
try:
    cm.qexec("select no_such_column from accounts")
except errors.UndefinedColumn as e:
    print(type(e).__name__)
finally:
    dbpool.put(cm)
with dbpool.take() as cm:
    print(cm.query1("select sum(balance) as total from accounts"))


def transfer(pool, number):
    source, target = random.sample(range(ACCOUNTS), 2)
    done = False
    while not done:
        with pool.take() as cm:
            conn = cm.resource
            try:
                with conn, conn.cursor() as c:
                    c.execute("update accounts set balance = balance - 1 where id = %s", (source,))
                    c.execute("update accounts set balance = balance + 1 where id = %s", (target,))
                done = True
            except (errors.SerializationFailure, errors.DeadlockDetected):
                conn.rollback()
        if not done:
            time.sleep(random.random() * 0.01)
    if number % 10 == 0:
        cm = pool.take()
        cm.resource.close()  # behind the manager's back
        pool.put(cm)
    return number


workers = mpp.ThreadPool(6)
print(sum(workers.starmap(transfer, [(dbpool, n) for n in range(TRANSFERS)])))
workers.close()
workers.join()
with dbpool.take() as cm:
    print(cm.query1("select count(*) as accounts, sum(balance) as total from accounts"))
    print(cm.resource.isolation_level == extensions.ISOLATION_LEVEL_SERIALIZABLE, cm.resource.autocommit)

try:
    with dbpool.take() as cm:
        closed = cm.resource
        raise psycopg2.OperationalError("as if the server had gone")
except psycopg2.OperationalError as e:
    print(e, closed.closed)

# without a context manager
cm = dbpool.take()
try:
    cm.resource.cursor().execute("drop table accounts")
    cm.resource.commit()
    print("dropped")
except Exception:
    if dbpool.closeOnException:
        cm.close()
    raise
finally:
    dbpool.put(cm)

# 1.3.2 prints:
# [{'id': 0, 'balance': 100}, {'id': 1, 'balance': 100}]
# ('owner 0', 100) ['owner', 'balance']
# {'owner': 'owner 3'} None
# {'ms': 60000}
# UndefinedColumn
# {'total': 400}
# 1770
# {'accounts': 4, 'total': 400}
# True False
# as if the server had gone 1
# dropped
