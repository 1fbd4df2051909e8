/* The way of a free block between threads as a model for spin: bins, stash, inbox, central, depot, and the life of threads.
 *
 * What is proven, for any number of operations and of threads one after another, THREADS at a time:
 *   no block lost, none in two places   place[] says where a block has to be, the containers say where it is; each step that
 *                                       moves a block asserts that it was where the step took it from
 *   none stranded                       whenever all threads have ended or sleep for ever, two ticks later every block is in
 *                                       the program, in central, or in the cache of a thread that sleeps
 *
 * Each step names the function that it stands for. A step is what no other thread can look into: one access to an inbox, what
 * is done while a lock is held, or what a thread does with blocks that it alone has. All that the code decides by numbers
 * (limits, thresholds, hints that are read without a lock) is free to go either way here, so the model can do what the code
 * can, and more. Not in it: classes of blocks but for the cells of the bank, runs and pages, fork; and memory order: a step is
 * seen by all at once. That the links of a list are visible to who takes it is for ThreadSanitizer to show (tests/stress).
 *
 * SPARSE chooses the ring, else it is the bank. LEAN leaves out what classes of small blocks do not have (remote blocks that are
 * kept, the depot), second lists, sleep, calls without a cache; three threads are too many states otherwise.
 * MUTANT_... breaks the model in one place. See run_model.py, which says what is run.
 */

#ifndef SHARDS
#define SHARDS 2
#endif
#ifndef THREADS
#define THREADS 2
#endif
#ifndef BLOCKS
#define BLOCKS 3
#endif
#define RING 2  /* slots of the ring */
#define LISTS 2 /* lists that the depot has room for */

/* Blocks are 1..BLOCKS, 0 is nullptr. A list whose links do not matter is a set. */
#define BIT(b) (1 << (b))
#if defined(ONE_OWNER)
#define OWNER(b) 0
#elif SHARDS > 2
#define OWNER(b) (((b) + 1) / 2) /* 1, 1, 2: shard 0 has threads, but no blocks */
#else
#define OWNER(b) (((b) - 1) % SHARDS)
#endif
#define SLOT(b) ((b) == 3)

/* Where a block is. */
#define PROGRAM 0
#define CENTRAL 1
#define DEPOT 2
#define INBOX 3
#define BIN(c) (4 + (c))
#define STASH(c) (4 + THREADS + (c))
#define HAND(t) (4 + 2 * THREADS + (t)) /* on the way, known to thread t alone */

byte place[BLOCKS + 1] = CENTRAL;
byte link[BLOCKS + 1]; /* the first word of a block */

/* Inbox::word_ */
byte inbox_head[SHARDS];
byte inbox_count[SHARDS];

/* Depot of the one class */
byte depot_list[LISTS];
byte depot_lists;
byte depot_idle;

typedef Cache {
  bool in_use;
  bool asleep; /* its thread never does anything again */
  byte shard;
  byte first; /* head */
  byte second;
  byte entries; /* of the stash */
#ifdef SPARSE
  byte ring[RING];
  byte oldest; /* head_ modulo RING; tail_ is oldest + entries */
#else
  byte bank[SHARDS * 2]; /* [dst][slot] */
#endif
};
Cache cache[THREADS];
#define mine cache[c]
byte live = THREADS;

#if defined(MUTANT_TAKE_IS_NO_EXCHANGE) || defined(MUTANT_TAKE_POPS_ONE)
#define TAKE_IN_STEPS
#endif

hidden byte b, n, next; /* for use within one step */

/* The blocks of a set move on. */
inline move(set, from, to) {
  b = 1;
  do
  :: b <= BLOCKS ->
     if
     :: (set) & BIT(b) -> assert(place[b] == from); place[b] = to
     :: else
     fi;
     b++
  :: else -> break
  od;
  b = 0
}

/* Some block of which WHERE holds. */
#if BLOCKS == 2
#define CHOOSE(WHERE) if :: WHERE(1) -> i = 1 :: WHERE(2) -> i = 2 fi
#elif BLOCKS == 3
#define CHOOSE(WHERE) if :: WHERE(1) -> i = 1 :: WHERE(2) -> i = 2 :: WHERE(3) -> i = 3 fi
#else
#define CHOOSE(WHERE) if :: WHERE(1) -> i = 1 :: WHERE(2) -> i = 2 :: WHERE(3) -> i = 3 :: WHERE(4) -> i = 4 fi
#endif
#define IN_PROGRAM(b) (place[b] == PROGRAM)
#define IN_CENTRAL(b) (place[b] == CENTRAL)
#define IN_CENTRAL_0(b) (place[b] == CENTRAL && OWNER(b) == 0)
#ifdef LEAN
#define MAY_KEEP(b) (OWNER(b) == mine.shard)
#else
#define MAY_KEEP(b) true
#endif
#define IN_FIRST(b) (mine.first & BIT(b))

/* Follows a list that was taken from the inbox of a shard; `hand` is what is in it. */
inline follow(shard_, list, count, t) {
  hand = 0;
  n = 0;
  b = list;
  do
  :: b != 0 ->
     assert(place[b] == INBOX && OWNER(b) == shard_);
     place[b] = HAND(t);
     hand = hand | BIT(b);
     n++;
     next = link[b];
     link[b] = 0;
     b = next
  :: else -> break
  od;
  assert(n == count);
  list = 0;
  count = 0
}

/* Inbox::take_all: one exchange. */
#define TAKE_ALL(s, t) d_step { follow(s, inbox_head[s], inbox_count[s], t) }

/* Central::put, under the lock of a shard: takes from a list what the shard owns. */
inline central_put(set, shard_, t) {
  b = 1;
  do
  :: b <= BLOCKS ->
     if
     :: ((set) & BIT(b)) && OWNER(b) == shard_ ->
        assert(place[b] == HAND(t));
        place[b] = CENTRAL;
        set = set & ~BIT(b)
     :: else
     fi;
     b++
  :: else -> break
  od
}

/* return_home, and pass_on, whose blocks all have one owner: to central of their owners, one after another. */
inline return_home(set, t) {
  do
  :: d_step {
       set != 0 ->
       i = 1;
       do
       :: !((set) & BIT(i)) -> i++
       :: else -> break
       od;
       i = OWNER(i);
       central_put(set, i, t);
       i = 0
     }
  :: set == 0 -> break
  od
}

/* Depot::put, under its lock. */
inline depot_put(set, from) {
  move(set, from, DEPOT);
  depot_list[depot_lists] = set;
  depot_lists++;
  set = 0
}

/* Depot::take, take_slow: the list that came last. */
inline depot_take(set, to) {
  depot_lists--;
  set = depot_list[depot_lists];
  depot_list[depot_lists] = 0;
  move(set, DEPOT, to);
  if
  :: depot_lists < depot_idle -> depot_idle = depot_lists
  :: else
  fi
}

/* Depot::take_idle: a list that was idle, else what is there now may be idle the next time. */
inline depot_take_idle(set, t) {
  if
  :: depot_lists == 0 || depot_idle == 0 -> depot_idle = depot_lists
  :: else ->
     depot_idle--;
     depot_lists--;
     set = depot_list[0];
     depot_list[0] = depot_list[1];
     depot_list[1] = 0;
     move(set, DEPOT, HAND(t))
  fi
}

#if defined(SPARSE) && !defined(MUTANT_FULL_RING_OVERWRITTEN)
#define MAY_WRITE (mine.entries < RING)
#else
#define MAY_WRITE true
#endif
/* The push of one block that is in hand into the stash of the thread: SparseRing::stash_push, DenseBank::stash_push. */
inline stash_write(block) {
  assert(place[block] == HAND(me) && OWNER(block) != mine.shard);
  place[block] = STASH(c);
#ifdef SPARSE
  mine.ring[(mine.oldest + mine.entries) % RING] = block;
#ifdef MUTANT_FULL_RING_OVERWRITTEN
  if
  :: mine.entries < RING -> mine.entries++
  :: else -> mine.oldest = (mine.oldest + 1) % RING
  fi
#else
  assert(mine.entries < RING);
  mine.entries++
#endif
#else
  link[block] = mine.bank[OWNER(block) * 2 + SLOT(block)];
  mine.bank[OWNER(block) * 2 + SLOT(block)] = block;
  mine.entries++
#endif
}

#ifdef SPARSE
/* SparseRing::stash_flush_budget: groups the oldest entries by owner. */
inline take_from_stash() {
  do
  :: mine.entries != 0 && budget != 0 ->
     i = mine.ring[mine.oldest];
     mine.ring[mine.oldest] = 0;
     dst = OWNER(i);
     assert(place[i] == STASH(c));
     place[i] = HAND(me);
     if
     :: list_first[dst] == 0 -> list_last[dst] = i
     :: else
     fi;
     link[i] = list_first[dst];
     list_first[dst] = i;
     list_count[dst]++;
     mine.oldest = (mine.oldest + 1) % RING;
     mine.entries--;
     budget--
  :: else -> break
  od;
#ifdef MUTANT_BUDGET_DROPS_THE_REST
  mine.entries = 0;
#endif
  if
  :: mine.entries == 0 -> mine.oldest = 0
  :: else
  fi;
  i = 0;
  dst = 0
}
#else
#define cell mine.bank[dst * 2 + slot]
/* DenseBank::flush_row: joins the lists of the next row, as far as the budget goes. */
inline take_from_stash() {
  slot = 0;
  do
  :: slot < 2 && (cell == 0 || list_count[dst] == budget) -> slot++
  :: slot < 2 && cell != 0 && list_count[dst] < budget ->
     if
     :: list_first[dst] == 0 -> list_first[dst] = cell
     :: else -> link[list_last[dst]] = cell
     fi;
     list_last[dst] = cell;
     list_count[dst]++;
     do
     :: link[list_last[dst]] != 0 && list_count[dst] < budget -> list_last[dst] = link[list_last[dst]]; list_count[dst]++
     :: else -> break
     od;
     cell = link[list_last[dst]];
#ifdef MUTANT_BUDGET_DROPS_THE_REST
     cell = 0;
#endif
     link[list_last[dst]] = 0
  :: else -> break
  od;
  i = list_first[dst];
  do
  :: i != 0 -> assert(place[i] == STASH(c)); place[i] = HAND(me); i = link[i]
  :: else -> break
  od;
  mine.entries = mine.entries - list_count[dst];
  budget = budget - list_count[dst];
  rows++;
  slot = 0
}
#endif

proctype Thread(byte me) {
  byte c;      /* its cache */
  byte hand;   /* blocks on the way, as a set */
  byte budget; /* of a flush */
  byte list_first[SHARDS];
  byte list_last[SHARDS];
  byte list_count[SHARDS];
  byte old;
  byte old_count;
  byte dst;
  byte i;
  bool emptying; /* empty_bin is at work */
  bool leaving;  /* flush_cache is, for a thread that ends */
#ifndef SPARSE
  byte rows;
  byte slot;
#endif

without_cache:
  if
#ifndef LEAN
  :: atomic { CHOOSE(IN_PROGRAM); place[i] = CENTRAL; i = 0; goto without_cache } /* free_uncached */
  :: atomic { CHOOSE(IN_CENTRAL_0); place[i] = PROGRAM; i = 0; goto without_cache } /* alloc_slow_zero without a cache */
#endif
  :: atomic { /* ThreadRegistry::attach: a structure that is free; any shard may have the fewest threads */
#ifdef LEAN
       c = me;
#else
       if
       :: !cache[0].in_use -> c = 0
       :: cache[0].in_use && !cache[1].in_use -> c = 1
#if THREADS > 2
       :: cache[0].in_use && cache[1].in_use && !cache[2].in_use -> c = 2
#endif
       fi;
#endif
       assert(mine.first == 0 && mine.second == 0 && mine.entries == 0);
       mine.in_use = true;
       if
       :: mine.shard = 0
       :: mine.shard = 1
#if SHARDS > 2
       :: mine.shard = 2
#endif
       fi
     }
  :: goto over /* the last of its threads has ended */
  fi;

work:
  if
  :: atomic { /* malloc_hot */
       CHOOSE(IN_FIRST);
       assert(place[i] == BIN(c));
       mine.first = mine.first & ~BIT(i);
       place[i] = PROGRAM;
       i = 0;
       goto work
     }
#ifndef LEAN
  :: atomic { mine.first == 0 && mine.second != 0 -> mine.first = mine.second; mine.second = 0; goto work } /* use_second */
#endif
  :: atomic { /* free_hot, free_remote */
       CHOOSE(IN_PROGRAM);
       if
       :: MAY_KEEP(i) -> mine.first = mine.first | BIT(i); place[i] = BIN(c); i = 0; goto work
       :: OWNER(i) != mine.shard -> hand = BIT(i); place[i] = HAND(me); i = 0; goto push
       fi
     }
  :: atomic { /* refill: Central::take, of the own shard or another's (borrow) */
       CHOOSE(IN_CENTRAL);
       mine.first = mine.first | BIT(i);
       place[i] = BIN(c);
       i = 0;
       goto work
     }
#ifndef LEAN
#ifdef MUTANT_DEPOT_WITHOUT_LOCK
  :: atomic { mine.first == 0 && depot_lists != 0 -> hand = depot_list[depot_lists - 1]; dst = depot_lists - 1 };
     d_step { mine.first = hand; move(hand, DEPOT, BIN(c)); depot_list[dst] = 0; depot_lists = dst; hand = 0; dst = 0 };
     goto work
#else
  :: atomic { mine.first == 0 && depot_lists != 0 -> d_step { depot_take(mine.first, BIN(c)) }; goto work } /* use_depot */
#endif
  :: atomic { /* bin_event_slow: the second list goes, or the first when that is too long to be the second. What stays of the
                 first might have been freed later. Both go of a hoarder: it comes here again, after use_second. */
       mine.first != 0 ->
       if
       :: hand = mine.second; mine.second = mine.first
       :: hand = mine.first
       fi;
       mine.first = 0;
       if
       :: hand == 0 -> goto work
       :: hand != 0 && depot_lists < LISTS -> d_step { depot_put(hand, BIN(c)) }; goto work
       :: hand != 0 -> d_step { move(hand, BIN(c), HAND(me)) }; goto send_home
       fi
     }
#endif
  :: atomic { mine.first != 0 || mine.second != 0 -> emptying = true; goto empty_bins } /* trim_bin */
#ifdef TAKE_IN_STEPS
  :: atomic { inbox_head[0] != 0 -> dst = 0; goto take }
  :: atomic { inbox_head[1] != 0 -> dst = 1; goto take }
#else
  :: atomic { /* take_inbox: into the bin what has room there, the rest to central */
       inbox_head[mine.shard] != 0 ->
       TAKE_ALL(mine.shard, me);
       i = 1;
       do
       :: i <= BLOCKS && (hand & BIT(i)) ->
          mine.first = mine.first | BIT(i); place[i] = BIN(c); hand = hand & ~BIT(i); i++
       :: i <= BLOCKS -> i++
       :: i > BLOCKS -> break
       od;
       i = 0;
#ifdef MUTANT_REST_OF_INBOX_DROPPED
       hand = 0;
#endif
       goto home
     }
  /* drain_to_central of any shard: tick, borrow, reclaim */
#if SHARDS == 2
  :: atomic { inbox_head[0] != 0 -> TAKE_ALL(0, me); goto home }
#endif
#ifndef ONE_OWNER
  :: atomic { inbox_head[1] != 0 -> TAKE_ALL(1, me); goto home }
#endif
#if SHARDS > 2
  :: atomic { inbox_head[2] != 0 -> TAKE_ALL(2, me); goto home }
#endif
#endif
#ifndef LEAN
  :: atomic { depot_lists != 0 -> d_step { depot_take_idle(hand, me) }; goto home } /* Depot::send_idle_home: tick */
#endif
  :: atomic { mine.entries != 0 -> if :: budget = 1 :: budget = BLOCKS fi; goto flush } /* flush_stash_when_due */
#ifdef MUTANT_DETACH_BEFORE_FLUSH
  :: atomic { true -> leaving = true; mine.in_use = false; goto empty_bins }
#else
  :: atomic { true -> leaving = true; goto empty_bins } /* on_thread_exit: give_up */
#endif
#ifndef LEAN
  :: atomic { true -> mine.asleep = true; goto over }
#endif
  fi;

#if defined(MUTANT_TAKE_IS_NO_EXCHANGE)
take:
  atomic { i = inbox_head[dst]; old_count = inbox_count[dst] };
  atomic {
    d_step {
      inbox_head[dst] = 0;
      inbox_count[dst] = 0;
      follow(dst, i, old_count, me);
      dst = 0
    }
  };
#elif defined(MUTANT_TAKE_POPS_ONE)
take:
  atomic { i = inbox_head[dst]; old = link[i] };
  atomic {
    if
    :: i != 0 && inbox_head[dst] == i ->
       assert(place[i] == INBOX);
       place[i] = HAND(me);
       hand = BIT(i);
       inbox_head[dst] = old;
       inbox_count[dst]--
    :: else
    fi;
    i = 0;
    old = 0;
    dst = 0
  };
#endif

home: /* pass_on, return_home */
  return_home(hand, me);
  goto work;

send_home: /* send_home of bins.cpp: what the own shard owns to central, the rest to the stash */
#ifdef MUTANT_ALL_TO_OWN_CENTRAL
  atomic {
    b = 1;
    do
    :: b <= BLOCKS -> assert(!(hand & BIT(b)) || OWNER(b) == mine.shard); b++
    :: else -> break
    od;
    move(hand, HAND(me), CENTRAL);
    hand = 0
  };
#else
  atomic { d_step { i = mine.shard; central_put(hand, i, me); i = 0 } };
#endif

push: /* stash_push, for each block in hand */
  if
#if defined(SPARSE) && !defined(MUTANT_FULL_RING_OVERWRITTEN)
  :: atomic { hand != 0 && mine.entries == RING -> budget = RING; goto flush }
#endif
  :: atomic {
       hand != 0 && MAY_WRITE ->
       i = 1;
       do
       :: !(hand & BIT(i)) -> i++
       :: else -> break
       od;
       hand = hand & ~BIT(i);
       stash_write(i);
       i = 0;
       if
       :: goto push
       :: budget = BLOCKS; goto flush /* due: stash_flush_all */
       fi
     }
  :: atomic { hand == 0 && !emptying && !leaving -> goto work }
  :: atomic { hand == 0 && (emptying || leaving) -> goto empty_bins }
  fi;

empty_bins: /* empty_bin; for a thread that ends flush_cache, which goes on with stash_flush_all */
  if
  :: atomic {
       mine.first != 0 ->
       hand = mine.first;
       mine.first = 0;
#ifdef MUTANT_EXIT_KEEPS_FIRST
       hand = 0;
#endif
       d_step { move(hand, BIN(c), HAND(me)) };
       goto send_home
     }
#ifndef LEAN
  :: atomic {
       mine.first == 0 && mine.second != 0 ->
       hand = mine.second;
       mine.second = 0;
#ifdef MUTANT_EXIT_KEEPS_SECOND
       hand = 0;
#endif
       d_step { move(hand, BIN(c), HAND(me)) };
       goto send_home
     }
#endif
  :: atomic { mine.first == 0 && mine.second == 0 && emptying -> emptying = false; goto work }
#ifdef MUTANT_EXIT_KEEPS_STASH
  :: atomic { mine.first == 0 && mine.second == 0 && leaving -> goto detach }
#else
  :: atomic { mine.first == 0 && mine.second == 0 && leaving && mine.entries != 0 -> budget = BLOCKS; goto flush }
  :: atomic { mine.first == 0 && mine.second == 0 && leaving && mine.entries == 0 -> goto detach }
#endif
  fi;

flush: /* stash_flush_budget */
#ifndef SPARSE
  atomic {
    rows = 0;
    if /* next_dst: any row may be the one whose turn it is */
    :: dst = 0
    :: dst = 1
#if SHARDS > 2
    :: dst = 2
#endif
    fi
  };
next_row:
#endif
  atomic { d_step { take_from_stash() } };
hand_over: /* Inbox::push of each owner's list */
  if
#ifndef SPARSE
  :: list_first[dst] != 0
#else
  :: atomic { list_first[0] != 0 -> dst = 0 }
  :: atomic { list_first[0] == 0 && list_first[1] != 0 -> dst = 1 }
#if SHARDS > 2
  :: atomic { list_first[0] == 0 && list_first[1] == 0 && list_first[2] != 0 -> dst = 2 }
#endif
#endif
  :: else ->
#ifdef SPARSE
     atomic { assert(mine.entries == 0 || budget == 0); budget = 0; goto push }
#else
     if
     :: atomic { rows < SHARDS && mine.entries != 0 && budget != 0 -> dst = (dst + 1) % SHARDS; goto next_row }
     :: atomic { !(rows < SHARDS && mine.entries != 0 && budget != 0) ->
          assert(mine.entries == 0 || budget == 0);
          budget = 0;
          rows = 0;
          dst = 0;
          goto push
        }
     fi
#endif
  fi;
  atomic { old = inbox_head[dst]; old_count = inbox_count[dst] }; /* the load */
#ifdef MUTANT_RETRY_WITHOUT_LINK
  link[list_last[dst]] = old;
#endif
retry:
  atomic {
#ifndef MUTANT_RETRY_WITHOUT_LINK
    link[list_last[dst]] = old;
#endif
    if
#ifdef MUTANT_PUSH_IS_A_STORE
    :: true ->
#else
    /* The compare-exchange. A weak one that fails for nothing would only come by here once more. */
    :: inbox_head[dst] == old && inbox_count[dst] == old_count ->
#endif
       d_step {
         b = list_first[dst];
         do
         :: assert(place[b] == HAND(me)); place[b] = INBOX;
            if
            :: b == list_last[dst] -> break
            :: else -> b = link[b]
            fi
         od;
         inbox_head[dst] = list_first[dst];
         inbox_count[dst] = old_count + list_count[dst];
         list_first[dst] = 0;
         list_last[dst] = 0;
         list_count[dst] = 0;
         old = 0;
#ifdef SPARSE
         dst = 0;
#endif
         old_count = 0
       };
       goto hand_over
#ifndef MUTANT_PUSH_IS_A_STORE
    :: else -> old = inbox_head[dst]; old_count = inbox_count[dst]; goto retry
#endif
    fi
  };

detach: /* ThreadRegistry::detach */
  atomic { mine.in_use = false; mine.shard = 0; c = 0; leaving = false; goto without_cache };

over:
  live--
}

/* tick, by whichever thread still calls the allocator: inboxes, idle lists of the depot. */
inline tick() {
#ifndef MUTANT_TICK_LEAVES_INBOXES
  dst = 0;
  do
  :: dst < SHARDS -> TAKE_ALL(dst, 0); return_home(hand, 0); dst++
  :: else -> dst = 0; break
  od;
#endif
#ifndef MUTANT_TICK_LEAVES_DEPOT
  do
  :: d_step { depot_take_idle(hand, 0) };
     if
     :: hand != 0 -> return_home(hand, 0)
     :: else -> break
     fi
  od;
#endif
  skip
}

init {
  byte hand;
  byte dst;
  byte i;
  atomic {
    place[0] = 0;
    run Thread(0);
    run Thread(1);
#if THREADS > 2
    run Thread(2);
#endif
  }
  live == 0;
  tick();
#ifndef MUTANT_ONE_TICK
  tick();
#endif
  i = 1;
  do
  :: i <= BLOCKS ->
#ifdef LEAN
     assert(place[i] == PROGRAM || place[i] == CENTRAL);
#else
     if
     :: place[i] == PROGRAM || place[i] == CENTRAL
     :: atomic {
          else -> /* of a thread that sleeps? */
          dst = 0;
          do
          :: dst < THREADS && !(cache[dst].asleep && (place[i] == BIN(dst) || place[i] == STASH(dst))) -> dst++
          :: else -> break
          od;
          assert(dst < THREADS) /* or the block is lost or stranded */
        }
     fi;
#endif
     i++
  :: else -> break
  od
}
