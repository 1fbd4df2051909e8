/* How others reach the bins of a thread that sleeps (hz3/sleepers.hpp), as a model for spin.
 *
 * What is proven, for any number of operations of one thread (Owner), which may be stopped before any step for any time, and of
 * one other that parks and empties its bin again and again (Reacher):
 *   no block lost, none in two places    place[] says where a block has to be; each step that moves a block asserts that it was
 *                                        there. When the thread has ended all are at home, on the way there, or in the program.
 *   no link is followed that is none     a block of the program has anything in its first word, one that is at home too
 *   nothing is written into a block, and no list is followed, that another has
 *
 * A step of the hot path, of who empties and of SlowCall is one load or store; what a slow call does between its marks is one
 * step, but for its pop and for background::create; and so is what is done under the registry's lock, but for parking and
 * emptying. One class of blocks. Time: stores that have no other order (`parked`, the seat, in_slow_call) lie in a buffer at
 * first, and others see them whenever Memory lets them arrive, in any order but for that of a release, or by the lock. The step
 * `grace` is kGraceMs: it comes after parking, and only when nothing is in a buffer. All other stores are seen at once, in the
 * order of the program. What the code decides by numbers and clocks is free to go either way; parking does not look at
 * in_slow_call, which is a hint there. Memory of blocks at home can be read. Not in it: several threads that reach (the
 * lock orders them), blocks that others take from home and pass on, a block's memory that is unmapped between two reads, fork.
 *
 * LARGE: a bin above the tiers, popped from in slow calls alone: no block is left, else one.
 * MUTANT_... breaks the model in one place. See run_model.py, which says what is run.
 */

#ifndef BLOCKS
#define BLOCKS 3
#endif

/* Blocks are 1..BLOCKS, 0 is nullptr. */
#define GARBAGE (BLOCKS + 1)

/* Where a block is. */
#define HOME 0
#define PROGRAM 1
#define FREED 2 /* on the way into the bin */
#define FIRST 3
#define SECOND 4
#define AWAY 5 /* taken by who empties */

byte place[BLOCKS + 2];
byte word[BLOCKS + 2] = GARBAGE; /* the first of a block: a link in lists */
byte first;                      /* head */
byte second; /* when emptied: where the first list is to be cut */

/* Caches that a seat holds */
#define CACHE 1 /* the thread's */
#define FRESH 2
#define ENDED 3
byte seat = CACHE; /* tls_cache */
bool seated = true;
bool parked;
bool in_slow_call;
bool emptied;
bool graced; /* kGraceMs have gone by since it was parked */
bool locked; /* the registry's lock, by Reacher: Owner holds it within a step alone */
bool over;   /* the thread has ended */

/* Store buffers: Reacher's, and the two of Owner. */
#define NO_STORE 0
#define STORE_FALSE 1
#define STORE_TRUE 2
byte parked_to_come;
byte seat_to_come; /* a cache */
byte mark_to_come; /* in_slow_call */

#define PARKED_ARRIVES \
  if \
  :: parked_to_come != NO_STORE -> parked = (parked_to_come == STORE_TRUE); parked_to_come = NO_STORE \
  :: else \
  fi
#define SEAT_ARRIVES \
  if \
  :: seat_to_come != NO_STORE -> seat = seat_to_come; seat_to_come = NO_STORE \
  :: else \
  fi
#define MARK_ARRIVES \
  if \
  :: mark_to_come != NO_STORE -> in_slow_call = (mark_to_come == STORE_TRUE); mark_to_come = NO_STORE \
  :: else \
  fi
/* As they are seen by who stores them, at once. */
#define IS_PARKED (parked_to_come == STORE_TRUE || (parked_to_come == NO_STORE && parked))
#define MY_SEAT (seat_to_come != NO_STORE -> seat_to_come : seat)

hidden byte b, n; /* for use within one step */

/* The blocks of a list move on. */
inline move(list, from, to) {
  b = list;
  do
  :: b != 0 ->
     assert(b != GARBAGE && place[b] == from);
     place[b] = to;
     n = word[b];
     if
     :: to == HOME -> word[b] = GARBAGE
     :: else
     fi;
     b = n
  :: else -> break
  od;
  n = 0
}

/* cut: before the block that was noted, at the head or behind one of two blocks. */
inline cut() {
  b = first;
  n = 0; /* the block whose link `b` is */
#ifdef MUTANT_NOTE_FORGOTTEN
  second = 0;
#endif
#ifdef MUTANT_CUT_BEHIND_FIRST
  n = first;
#else
  if
  :: b != 0 && b != second ->
     assert(b != GARBAGE && place[b] == FIRST);
     n = b;
     b = word[b];
#ifndef MUTANT_CUT_LOOKS_AT_ONE
     if
     :: b != 0 && b != second -> assert(b != GARBAGE && place[b] == FIRST); n = b
     :: else
     fi
#endif
  :: else
  fi;
#endif
  if
  :: n == 0 -> first = 0
  :: else -> assert(place[n] == FIRST); word[n] = 0
  fi;
  second = 0;
  n = 0
}

/* What wake() does by the lock; whoever takes it sees what was stored before it was given back. */
inline wake_locked() {
  PARKED_ARRIVES;
  SEAT_ARRIVES;
  if
  :: seated ->
#ifdef MUTANT_WAKE_LEAVES_SEAT
     if
     :: parked && seat == FRESH -> seat = CACHE
     :: else
     fi;
#else
     if
     :: seat == FRESH -> seat = CACHE
     :: else
     fi;
#endif
     assert(seat != FRESH); /* or the thread stays without its cache */
     parked = false;
     if
     :: emptied -> emptied = false; cut()
     :: else
     fi
  :: else
  fi;
  MARK_ARRIVES
}
#ifdef MUTANT_WAKE_WITHOUT_LOCK
#define WAKE atomic { d_step { wake_locked() } }
#else
#define WAKE atomic { !locked -> d_step { wake_locked() } }
#endif

/* Some block of the program. */
#define IN_PROGRAM(b) (place[b] == PROGRAM)
#if BLOCKS == 3
#define CHOOSE if :: IN_PROGRAM(1) -> block = 1 :: IN_PROGRAM(2) -> block = 2 :: IN_PROGRAM(3) -> block = 3 fi
#elif BLOCKS == 4
#define CHOOSE \
  if :: IN_PROGRAM(1) -> block = 1 :: IN_PROGRAM(2) -> block = 2 :: IN_PROGRAM(3) -> block = 3 :: IN_PROGRAM(4) -> block = 4 fi
#else
#define CHOOSE \
  if \
  :: IN_PROGRAM(1) -> block = 1 \
  :: IN_PROGRAM(2) -> block = 2 \
  :: IN_PROGRAM(3) -> block = 3 \
  :: IN_PROGRAM(4) -> block = 4 \
  :: IN_PROGRAM(5) -> block = 5 \
  fi
#endif

/* background::create: the cache is not in its seat for a while. By an exchange, so what others put there is not lost. */
#if defined(MUTANT_SEAT_GETS_CACHE)
#define CREATE seat_to_come = ENDED; seat_to_come = CACHE
#elif defined(MUTANT_CREATE_WITHOUT_EXCHANGE)
#define CREATE mine = MY_SEAT; seat_to_come = ENDED; atomic { seat_to_come = mine; mine = 0 }
#else
#define CREATE atomic { d_step { SEAT_ARRIVES; mine = seat; seat = ENDED } }; atomic { seat_to_come = mine; mine = 0 }
#endif

proctype Owner() {
  byte block;
  byte next;
  byte mine;     /* what was in its seat, in background::create */
  bool pushing;  /* free_hot, its event included; else malloc_hot */
  bool leaving;  /* flush_cache of give_up */

program:
  if
#ifdef LARGE
  :: atomic { MY_SEAT == CACHE -> goto slow_call } /* large_zero */
  :: atomic { MY_SEAT != CACHE -> goto wake_up }
#else
  :: atomic { MY_SEAT == CACHE -> goto pop } /* malloc_hot */
  :: atomic { MY_SEAT != CACHE -> goto alloc_slow }
#endif
  :: atomic { /* free_hot: tls_cache is read */
       CHOOSE;
       place[block] = FREED;
       pushing = true;
       if
       :: MY_SEAT == CACHE -> goto push
       :: else -> goto wake_up /* free_slow */
       fi
     }
  :: atomic { true -> leaving = true; goto unseat } /* on_thread_exit */
  fi;

#ifndef LARGE
pop: /* malloc_hot has found the cache */
  atomic {
    block = first;
    if
    :: block == 0 -> goto alloc_slow
    :: else
    fi
  };
#endif
pop_first: /* pop_hot, pop */
  atomic { assert(place[block] == FIRST); next = word[block] };
  atomic {
    assert(place[block] == FIRST && next != GARBAGE);
    first = next;
    next = 0;
    place[block] = PROGRAM
  };
  atomic { /* returned: the program writes to the block, sooner or later, as the thread may be stopped before this step */
    word[block] = GARBAGE;
    block = 0;
    goto end_slow_call /* nothing is done there for malloc_hot */
  };

push:
  next = first;
#ifdef MUTANT_HEAD_BEFORE_LINK
  atomic { first = block; assert(place[block] == FREED); place[block] = FIRST };
  atomic { word[block] = next; next = 0; block = 0 };
#else
  atomic { word[block] = next; next = 0 };
  atomic { first = block; assert(place[block] == FREED); place[block] = FIRST; block = 0 };
#endif
  if
  :: atomic { true -> pushing = false; goto program }
  :: goto slow_call /* bin_event_slow */
  fi;

#ifndef LARGE
alloc_slow: /* which reads tls_cache again */
  if
  :: atomic { MY_SEAT == CACHE -> goto slow_call }
  :: atomic { MY_SEAT != CACHE -> goto wake_up }
  fi;
#endif

wake_up: /* own_cache_slow */
  WAKE;
  if /* background::attend */
  :: CREATE
  :: true
  fi;
  if
  :: atomic { pushing -> goto push }
  :: atomic { !pushing -> goto slow_call }
  fi;

unseat:
#ifdef MUTANT_UNSEAT_IN_TWO_STEPS
  WAKE;
  atomic { !locked -> d_step { PARKED_ARRIVES; SEAT_ARRIVES; seated = false } };
#else
  atomic { !locked -> d_step { wake_locked(); seated = false } };
#endif

slow_call: /* SlowCall() */
#ifdef MUTANT_LOOKS_BEFORE_MARK
  if
  :: parked -> WAKE
  :: !parked
  fi;
  mark_to_come = STORE_TRUE;
#else
  mark_to_come = STORE_TRUE;
#ifndef MUTANT_SLOW_CALL_DOES_NOT_LOOK
  if
  :: parked -> WAKE
  :: !parked
  fi;
#endif
#endif
  if
  :: atomic { /* flush_cache, empty_bin */
       true ->
       d_step { move(first, FIRST, HOME); first = 0; move(second, SECOND, HOME); second = 0 };
       if
       :: leaving || pushing -> goto end_slow_call
       :: else
       fi
     }
  :: atomic { /* bin_event_slow: the first list becomes the second */
       pushing ->
       d_step { move(second, SECOND, HOME); second = first; move(second, FIRST, SECOND); first = 0 };
       goto end_slow_call
     }
  :: pushing -> CREATE; goto end_slow_call
  :: atomic { !leaving && !pushing }
  fi;

/* alloc_slow_zero */
#ifndef MUTANT_SECOND_OVER_FIRST
  if
  :: atomic { first != 0 -> block = first; goto pop_first }
  :: first == 0
  fi;
#endif
  if
  :: atomic { second != 0 -> d_step { first = second; second = 0; move(first, SECOND, FIRST) }; block = first; goto pop_first }
  :: atomic { /* refill, without or with more than the one that it returns. Or all are in use, for want of memory. */
       second == 0 ->
       d_step {
         b = 1;
         do
         :: b <= BLOCKS && place[b] != HOME -> b++
         :: else -> break
         od;
         if
         :: b <= BLOCKS -> place[b] = PROGRAM
         :: else
         fi
       };
       if
       :: true
       :: d_step {
            b = BLOCKS;
            do
            :: b != 0 ->
               if
               :: place[b] == HOME -> place[b] = FIRST; word[b] = first; first = b
               :: else
               fi;
               b--
            :: else -> break
            od
          }
       fi
     }
  fi;

end_slow_call: /* ~SlowCall() */
  atomic {
    if
    :: in_slow_call || mark_to_come != NO_STORE -> mark_to_come = STORE_FALSE
    :: else
    fi;
    pushing = false;
    if
    :: !leaving -> goto program
    :: else
    fi
  };

  d_step {
    over = true;
    b = 1;
    do
    :: b <= BLOCKS -> assert(place[b] == HOME || place[b] == PROGRAM || place[b] == AWAY); b++
    :: else -> break
    od
  }
}

proctype Reacher() {
  byte head;
  byte rest;
  byte old; /* the second list */
  bool again;

idle:
  if
  :: atomic { seated && !emptied && !IS_PARKED -> parked_to_come = STORE_TRUE; locked = true; goto park }
  :: atomic { /* grace */
       IS_PARKED && !graced && parked_to_come == NO_STORE && seat_to_come == NO_STORE && mark_to_come == NO_STORE ->
       graced = true;
       goto idle
     }
#ifdef MUTANT_NO_GRACE
  :: atomic { seated && IS_PARKED && !emptied -> locked = true } /* may_empty */
#else
  :: atomic { seated && IS_PARKED && graced && !emptied -> locked = true } /* may_empty */
#endif
  :: atomic { over -> goto done }
  fi;

#ifndef MUTANT_EMPTIES_IN_SLOW_CALL
  if
  :: atomic { in_slow_call -> goto unlock }
  :: !in_slow_call
  fi;
#endif
  if
  :: atomic { seat != FRESH -> parked_to_come = STORE_FALSE; goto unlock }
  :: seat == FRESH
  fi;

  atomic { old = second; d_step { move(old, SECOND, AWAY); second = 0 } }; /* empty */
rest_of_first:
  atomic { head = first; rest = head };
#if !defined(LARGE) && !defined(MUTANT_NONE_LEFT)
  if
  :: head != 0 -> rest = word[head]
  :: head == 0
  fi;
#ifndef MUTANT_HEAD_NOT_READ_AGAIN
  atomic {
    if
    :: first != head -> assert(!again); again = true; goto rest_of_first
    :: else
    fi
  };
#endif
#ifdef MUTANT_FIRST_IS_CUT
  atomic {
    if
    :: head != 0 -> assert(place[head] == FIRST); word[head] = 0
    :: else
    fi
  };
#endif
#endif
  d_step { again = false; head = 0; move(rest, FIRST, AWAY); second = rest; emptied = true };
  locked = false;
  d_step { move(rest, AWAY, HOME); rest = 0; move(old, AWAY, HOME); old = 0 }; /* return_home */
  goto idle;

park:
  atomic {
    if
#ifdef MUTANT_PARKS_BY_A_STORE
    :: true -> seat = FRESH
#else
    :: seat == CACHE -> seat = FRESH
    :: seat != CACHE -> parked_to_come = STORE_FALSE
#endif
    fi;
    graced = false
  };

unlock:
  atomic { locked = false; goto idle };

done:
  skip
}

/* What is in a buffer arrives. */
proctype Memory() {
  do
  :: d_step { parked_to_come != NO_STORE -> PARKED_ARRIVES }
  :: d_step { seat_to_come != NO_STORE -> SEAT_ARRIVES }
  :: d_step { mark_to_come == STORE_TRUE || (mark_to_come == STORE_FALSE && seat_to_come == NO_STORE) -> MARK_ARRIVES }
  :: over -> break
  od
}

init {
  atomic {
    run Owner();
    run Reacher();
    run Memory()
  }
}
