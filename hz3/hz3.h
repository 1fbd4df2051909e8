/* What hz3 adds to <malloc.h>: parameters of mallopt(3). Their meaning, values and defaults: docs/settings.md. mallopt() is 1
 * when the value was taken, 0 when it is out of range. Other allocators do not know these numbers; most ignore them. */
#ifndef HZ3_H
#define HZ3_H

#define M_HZ3_DECAY_MS 0x687a3301          /* -1..600000 ms; -1: nothing goes back unless it is asked for */
#define M_HZ3_BACKGROUND_THREAD 0x687a3302 /* 0, 1 */
#define M_HZ3_SOFT_LIMIT_MIB 0x687a3303    /* 0..1073741824 MiB; 0: none */
#define M_HZ3_HARD_LIMIT_MIB 0x687a3304    /* the same */
#define M_HZ3_HUGE_PAGES 0x687a3305        /* 0 as the system is set, 1 never, 2 dense, 3 always */

#endif
