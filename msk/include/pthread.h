/* The system's pthread.h, but that conditions are waited for by a clock that nobody sets.
 *
 * librdkafka 2.12.1 reckons the end of each of its waits by the wall clock and leaves it to
 * pthread_cond_timedwait, which goes by that clock too. A clock that is set back by an hour while it waits makes
 * a wait of a second one of an hour: its threads then send nothing, and hear of nothing but what somebody wakes
 * them for (issue #2145, open since 2018). Devices do set their clocks back. So what is left of such a wait is
 * taken once, as it begins, and waited for by the monotonic clock.
 *
 * It is librdkafka's own threads over pthread that come here: see threads.h beside this. C_INCLUDE_PATH
 * (`.cargo/config.toml`) puts both before the system's. Nothing else that is compiled into headwater waits for
 * conditions in C. glibc has pthread_cond_clockwait since 2.30; elsewhere all stays as it is. Remove both when
 * librdkafka waits by a monotonic clock. A build folder from before them keeps the librdkafka that it has:
 * `cargo clean -p rdkafka-sys`. */
#include_next <pthread.h>

#if !defined(HEADWATER_PTHREAD_H) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 30)
#define HEADWATER_PTHREAD_H

#include <errno.h>
#include <time.h>

/* Declared by the system's header for _GNU_SOURCE alone. */
extern int pthread_cond_clockwait(pthread_cond_t *, pthread_mutex_t *, clockid_t,
                                  const struct timespec *);

__attribute__((unused)) static inline int
headwater_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                         const struct timespec *until)
{
    const long second = 1000000000L;
    struct timespec now, end;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || clock_gettime(CLOCK_MONOTONIC, &end) != 0)
        return errno;
    /* A moment that is past lies before `end` as well: that ends the wait at once. */
    end.tv_sec += until->tv_sec - now.tv_sec;
    end.tv_nsec += until->tv_nsec - now.tv_nsec;
    if (end.tv_nsec < 0) {
        end.tv_nsec += second;
        end.tv_sec -= 1;
    } else if (end.tv_nsec >= second) {
        end.tv_nsec -= second;
        end.tv_sec += 1;
    }
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &end);
}

#define pthread_cond_timedwait headwater_cond_timedwait
#endif
#endif
