/*
 * The protocol by which queuepool/slotqueue.py hands slots to those who wait. README.rst says which function each step
 * is, what is proved, and what the switches are. THREADS threads each take and put one of SLOTS slots ROUNDS times.
 *
 * One transition is one atomic step of the Python code: an append, pop, popleft or remove of a list or deque, a look at
 * one, a load or store of a flag. d_step joins such a step with what touches nothing that is shared, and with the
 * bookkeeping of the proof. Two looks are left out, for they change nothing: whoever looks once more and finds things
 * different is where it would be had it begun to look later. They are put's look at the lines, which serve repeats, and
 * serve's look at the slots, which its pop repeats.
 */

#define WAITERS (2 * THREADS)   /* each thread waits as one, and may be giving to another */
#define NONE 255                /* no slot, no waiter, nothing given */
#define CLOSED 254              /* the error that close gives */
#define BIT(n) (1 << (n))
#define ALL (BIT(SLOTS) - 1)
#if defined(PAUSE) || defined(CLOSE)
#define PROCESSES (THREADS + 1)
#else
#define PROCESSES THREADS
#endif
#define LINE 0
#define STANDBY 1

/* Slots are alike but for whether they are open, so sets stand for the stacks and queues that the code has. */
byte open_slots                 /* SlotQueue.queue */
byte empty_slots                /* SlotQueue._vacant */
bool is_open[SLOTS]
typedef Waiters { byte at[WAITERS]; byte n }
Waiters lines[2]                /* SlotQueue.line and SlotQueue.standby */
bool held                       /* SlotQueue._held */
bool closed                     /* BasePool._closed */
byte item[WAITERS]              /* Waiter._items, never more than one */
bool abandoned[WAITERS]         /* Waiter._abandoned */
bool awake[WAITERS]             /* ThreadWaiter._lock has been released */

/* What only the proof knows. */
byte started                    /* threads that have begun: as all are alike, it need be tried in one order only */
byte references[WAITERS]        /* how many refer to the waiter; at none it is nobody */
byte finished                   /* how many threads have ended */
hidden byte i
#ifdef ORDER
byte owed                       /* threads in the line */
byte owner[WAITERS]
byte ahead[THREADS]             /* those that were in it when this thread's take began, and are still */
#endif

#ifdef STRIKES
byte strikes = STRIKES          /* asynchronous exceptions yet to come */
byte victim                     /* and the thread that they strike */
byte lost                       /* slots to which nobody refers any more */
byte tickets                    /* slotqueue._tickets */
byte ticket[WAITERS]
#define MAY_STRIKE if :: me == victim && strikes -> strikes--; goto struck :: true fi;
#else
#define MAY_STRIKE
#endif

/* --- lists, deques and sets: inside d_step, or one themselves */

inline cut(l) {
  do :: i + 1 < lines[l].n -> lines[l].at[i] = lines[l].at[i + 1]; i++ :: else -> break od;
  lines[l].n--;
  lines[l].at[lines[l].n] = 0
}

inline append(l, x) {
  lines[l].at[lines[l].n] = x;
  lines[l].n++
}

inline append_left(l, x) {
  i = lines[l].n;
  do :: i > 0 -> lines[l].at[i] = lines[l].at[i - 1]; i-- :: else -> break od;
  lines[l].at[0] = x;
  lines[l].n++
}

inline pop_left(l, x) {
  d_step {
    if
    :: lines[l].n == 0 -> x = NONE
    :: else -> x = lines[l].at[0]; references[x]++; i = 0; cut(l); is_owed_no_more(x)
    fi
  }
}

inline remove(condition, l, x) {
  d_step {
    condition;
    i = 0;
    do :: i < lines[l].n && lines[l].at[i] != x -> i++ :: else -> break od;
    if :: i < lines[l].n -> cut(l) :: else fi;
    is_owed_no_more(x)
  }
}

inline pop_slot(set, x) {
  d_step {
    x = 0;
    do :: x < SLOTS && !(set & BIT(x)) -> x++ :: else -> break od;
    if
    :: x == SLOTS -> x = NONE
    :: else -> set = set & ~BIT(x)
    fi
  }
}

/* Each slot taken out is put back once, so if one were ever given to two, there would be a put too many. */
inline put_slot(x) {
  d_step {
    assert(!((open_slots | empty_slots) & BIT(x)));
    if :: is_open[x] -> open_slots = open_slots | BIT(x) :: else -> empty_slots = empty_slots | BIT(x) fi;
    x = NONE
  }
}

/* --- the order that is promised: those in the line when a take begins come before it */

#ifdef ORDER
inline take_begins() { ahead[me] = owed }
inline joins_line() { owner[waiter] = me; owed = owed | BIT(me) }
inline is_owed_no_more(x) {
  owed = owed & ~BIT(owner[x]);
  i = 0;
  do :: i < THREADS -> ahead[i] = ahead[i] & ~BIT(owner[x]); i++ :: else -> break od
}
#else
inline take_begins() { skip }
inline joins_line() { skip }
inline is_owed_no_more(x) { skip }
#endif

/* --- Waiter */

inline new_waiter(x) {
  x = 0;
  do :: references[x] -> x++ :: else -> break od;
  references[x] = 1
}

inline let_go_of(x) {
  references[x]--;
  if
  :: references[x] == 0 ->
#ifdef STRIKES
     if :: item[x] < SLOTS -> lost = lost | BIT(item[x]) :: else fi;
     ticket[x] = 0;
#else
     assert(item[x] == NONE);   /* no slot goes with a waiter that has left */
#endif
     item[x] = NONE;
     abandoned[x] = false;
     awake[x] = false
  :: else
  fi;
  x = NONE
}

inline give(x, what) {
  d_step { item[x] = what; given = true };
  MAY_STRIKE
  if
#ifndef FAULT_GIVES_BLINDLY
  :: abandoned[x] ->
     MAY_STRIKE
     d_step { given = item[x] == NONE; item[x] = NONE; let_go_of(x) }
#endif
  :: else -> MAY_STRIKE d_step { awake[x] = true; let_go_of(x) }
  fi
}

inline accept(condition, x) {
  d_step { condition; assert(item[x] != NONE); got = item[x]; item[x] = NONE; let_go_of(x) }
}

inline abandon(x) {
  abandoned[x] = true;
  MAY_STRIKE
#if defined(FAULT_LOOKS_THEN_POPS)
  if
  :: item[x] == NONE -> d_step { got = NONE; let_go_of(x) }
  :: else -> accept(true, x)
  fi
#elif defined(FAULT_LEAVES_DEAF)
  d_step { got = NONE; let_go_of(x) }
#else
  d_step { got = item[x]; item[x] = NONE; let_go_of(x) }
#endif
}

/* --- SlotQueue */

inline serve() {
  do
  :: from = LINE;
#ifdef EMPTY
     if :: lines[STANDBY].n -> if :: open_slots -> from = STANDBY :: else fi :: else fi;
#endif
     if
     :: from == STANDBY
     :: else ->
        if :: lines[LINE].n == 0 -> break :: else fi;
#ifdef PAUSE
        if :: held -> break :: else fi
#else
        skip
#endif
     fi;
#ifdef FAULT_WAITER_FIRST
     pop_left(from, w);
     if :: w == NONE -> break :: else fi;
#endif
#ifdef FAULT_PEEKS_THEN_POPS
     if :: open_slots == 0 -> s = NONE :: else -> s = 0; open_slots = open_slots & ~BIT(0) fi;
#else
     pop_slot(open_slots, s);
#endif
#ifdef EMPTY
     if :: s == NONE && from == LINE -> pop_slot(empty_slots, s) :: else fi;
#endif
     if
     :: s == NONE ->
#ifdef FAULT_WAITER_FIRST
        d_step { append_left(from, w); let_go_of(w) };
#endif
        if :: from == LINE -> break :: else fi
     :: else ->
        MAY_STRIKE
#ifndef FAULT_WAITER_FIRST
        pop_left(from, w);
#endif
        MAY_STRIKE
        if :: w != NONE -> give(w, s) :: else -> given = false fi;
        if
        :: given -> s = NONE; given = false
        :: else ->
           MAY_STRIKE
           put_slot(s)
#ifdef FAULT_LOOKS_ONCE
           ; break
#endif
        fi
     fi
  od
}

inline put(x) {
#ifdef FAULT_LOOKS_THEN_APPENDS
  if
  :: lines[LINE].n || lines[STANDBY].n -> put_slot(x); serve()
  :: else -> put_slot(x)
  fi
#else
  MAY_STRIKE
  put_slot(x);
  MAY_STRIKE
  serve()
#endif
}

inline get_now(x) {
  d_step {
    rounds > 1 || started == me;
    if :: rounds == 1 -> started++ :: else fi;
    take_begins();
#ifdef FAULT_BARGES
    others = false
#else
    others = lines[LINE].n > 0
#endif
  };
#ifdef PAUSE
  if :: others :: else -> others = held fi;
#endif
  if
  :: others
  :: else ->
     pop_slot(open_slots, x);
     MAY_STRIKE
#ifdef EMPTY
     if :: x == NONE -> pop_slot(empty_slots, x) :: else fi;
     MAY_STRIKE
#endif
  fi
}

inline leave(condition, l, x) {
  remove(condition, l, x);
  MAY_STRIKE
  abandon(x)
}

inline wake(l, what) {
  n = lines[l].n;
  do
  :: n > 0 ->
     pop_left(l, w);
     if :: w == NONE -> break :: else fi;
     give(w, what);
     n--
  :: else -> break
  od
}

/* --- Take._wait, with the ThreadWaiter's lock */

/* A waiter looks around each second. It is offered here only when it changes something, for else what it cannot mend
   would not be seen as a deadlock, but as an endless loop. */
#define CAN_SERVE(l) (lines[l].n && !held && (open_slots || (l == LINE && empty_slots)))
#ifdef FAULT_ASKS_THE_LINE_ALONE
#define HAS_BEEN_GIVEN false
#else
#define HAS_BEEN_GIVEN (item[waiter] != NONE)
#endif
#define IS_STRANDED(l) (HAS_BEEN_GIVEN || lines[l].n == 0 || ticket[lines[l].at[0]] > ticket[waiter])

inline wait(l, times_out) {
#ifdef FAULT_LOOKS_THEN_JOINS
  serve();
  skip;
#endif
  d_step {
    new_waiter(waiter);
#ifdef STRIKES
    tickets++;
    ticket[waiter] = tickets;
    where = l;
#endif
    append(l, waiter);
    joins_line()
  };
  MAY_STRIKE
#ifndef FAULT_LOOKS_THEN_JOINS
  serve();
#endif
#if defined(CLOSE) && !defined(FAULT_CLOSES_UNSEEN)
  if :: closed -> wake(l, CLOSED) :: else fi;
#endif
  do
  :: accept(awake[waiter], waiter); break
  :: leave(times_out, l, waiter); break
#if defined(STRIKES) && !defined(FAULT_NEVER_LOOKS)
  :: lost -> pop_slot(lost, s); if :: s == NONE :: else -> put_slot(s) fi; serve()
#ifndef FAULT_NEVER_SERVES
  :: CAN_SERVE(l) -> serve()
#endif
  :: IS_STRANDED(l) ->
     next = ticket[waiter];
     leave(true, l, waiter);
     if
     :: got != NONE -> break
     :: else -> d_step { new_waiter(waiter); ticket[waiter] = next; append_left(l, waiter) }; serve()
     fi
#endif
  od;
  MAY_STRIKE
}

/* --- what threads do */

proctype User(byte me) {
  byte slot = NONE, got = NONE, waiter = NONE   /* what it has, was given, waits as */
  byte s = NONE, w = NONE, from, n, next        /* what serve, wake and wait have in hand */
  byte rounds, where
  bool given, others, impatient
  do
  :: rounds == ROUNDS -> break
  :: else ->
     rounds++;
#ifdef CLOSE
     if :: closed -> if :: rounds > 1 :: started == me -> started++ fi; break :: else fi;
#endif
     get_now(slot);
     if
     :: slot == NONE ->
        if :: impatient = false :: impatient = true fi;   /* whether it has a timeout, which may pass at any moment */
        wait(LINE, impatient)
        slot = got;
        got = NONE;
        impatient = false
     :: else
     fi;
     others = false;
     if
     :: slot == NONE            /* timed out */
     :: slot == CLOSED -> slot = NONE
     :: else ->
#ifdef ORDER
        assert(!ahead[me]);     /* nobody was overtaken */
#endif
#ifdef EMPTY
        if
        :: is_open[slot]
        :: else ->
           if
           :: true
           :: wait(STANDBY, true)
              if
              :: got == NONE
              :: else ->        /* its own goes to the next in line */
                 d_step { s = slot; slot = got; got = s; s = NONE };
#ifndef FAULT_SWAPS_AND_FORGETS
                 put(got)
#endif
              fi
           fi;
           is_open[slot] = true
        fi;
        if :: true :: is_open[slot] = false fi;   /* a limit may close it as it is put back */
#endif
        put(slot)
     fi
  od;
#ifdef STRIKES
  goto ended;
struck: skip;
  /* What was in a variable is lost. A waiter gives up: what was on its way to it goes to the next. */
  d_step {
    if :: s != NONE && !given -> lost = lost | BIT(s) :: else fi;
    if :: slot < SLOTS -> lost = lost | BIT(slot) :: else fi;
    if :: got < SLOTS -> lost = lost | BIT(got) :: else fi;
    if :: w != NONE -> let_go_of(w) :: else fi;
    s = NONE; slot = NONE; got = NONE; given = false
  };
  if
  :: waiter != NONE ->
     leave(true, where, waiter);
     if :: got != NONE -> put(got) :: else fi
  :: else
  fi;
ended:
#endif
  finished++
}

#ifdef PAUSE
active proctype Pauser() {
  byte s = NONE, w = NONE, from
  bool given
  held = true;
  held = false;
#ifndef FAULT_RESUMES_ASLEEP
  serve();
#endif
  finished++
}
#endif

#ifdef CLOSE
/* Only that it tells those who wait; the slots that it retires are gone. */
active proctype Closer() {
  byte s = NONE, w = NONE, n
  bool given
  closed = true;
  wake(LINE, CLOSED);
  do :: pop_slot(open_slots, s); if :: s == NONE -> break :: else fi od;
  finished++
}
#endif

init {
  byte t
  atomic {
    do :: t < WAITERS -> item[t] = NONE; t++ :: else -> break od;
#ifdef EMPTY
    empty_slots = ALL;
#else
    open_slots = ALL;
    t = 0;
    do :: t < SLOTS -> is_open[t] = true; t++ :: else -> break od;
#endif
#ifdef STRIKES
    do :: victim + 1 < THREADS -> victim++ :: break od;
#endif
    t = 0;
    do :: t < THREADS -> run User(t); t++ :: else -> break od
  }
  finished == PROCESSES;
#ifdef STRIKES
  open_slots = open_slots | lost; /* the next sweep */
#endif
#ifndef CLOSE
  assert((open_slots | empty_slots) == ALL);  /* no slot is lost */
#endif
  assert(lines[LINE].n == 0 && lines[STANDBY].n == 0)
}
